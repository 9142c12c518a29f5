"""``POST /v1/avatars/{id}/speech`` and sockets without a playhead: plain clients get a talking face."""

from __future__ import annotations

import asyncio
import io
import wave
from fractions import Fraction
from typing import Any, cast

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait.image import load_image
from inference_server.engines.base import BodyLoop
from inference_server.errors import RequestError
from inference_server.frontends.http.clip import read_wav
from testing.card import read_card
from tests.support.avatar_client import portrait
from tests.support.house import tone
from tests.support.http import Talk, client, refusal, socket
from tests.support.portraits import IRIS
from tests.support.servers import InferenceServer, running_server
from tests.support.vowels import vowels

SIZE = {"width": 320, "height": 240}


def wav(sound: NDArray[np.int16], rate: int, channels: int = 1) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, 2, rate, 0, "NONE", ""))
        out.writeframes(sound.tobytes())
    return file.getvalue()


async def prepared(server: InferenceServer) -> str:
    async with client(server) as http:
        answer = await http.post("/v1/avatars", params=SIZE, content=portrait())
        return str(answer.raise_for_status().json()["avatar_id"])


@pytest.mark.process
async def test_a_wav_becomes_a_clip_whose_lips_are_with_the_voice() -> None:
    async with running_server(slots=1) as server:
        avatar_id = await prepared(server)
        async with client(server) as http:
            path = f"/v1/avatars/{avatar_id}/speech"
            pieces: list[bytes] = []
            async with http.stream("POST", path, content=wav(tone(3, rate=22_050), 22_050)) as answer:
                assert (answer.status_code, answer.headers["content-type"]) == (200, "video/mp4")
                pieces += [piece async for piece in answer.aiter_raw()]
            assert len(pieces) > 2  # while it is drawn
            again = await http.post(path, content=wav(tone(0.5), 16_000))  # the slot is free again
            assert again.status_code == 200
    opened: Any = av.open(io.BytesIO(b"".join(pieces)))
    with opened as file:
        video, audio = file.streams.video[0], file.streams.audio[0]
        assert (video.width, video.height, video.codec_context.name) == (320, 240, "h264")
        assert (audio.rate, audio.codec_context.name) == (22_050, "aac")
        shown = [(float(f.time), read_card(f.to_ndarray(format="rgb24"))) for f in file.decode(video)]
        file.seek(0)
        sounds = [(float(f.time), f.to_ndarray().reshape(-1)) for f in file.decode(audio)]
    heard = np.concatenate([sound for _, sound in sounds])
    onset = sounds[0][0] + int(np.argmax(np.abs(heard) > 0.1)) / 22_050  # AAC begins with samples of its own
    assert 75 <= len(shown) <= 80 and abs(len(heard) / 22_050 - 3) < 0.1
    mouths = [(time, card.mouth.frame) for time, card in shown if card is not None and card.mouth is not None]
    assert len([frame for _, frame in mouths if frame < 75]) >= 70
    for time, frame in mouths[1:]:  # the first picture stands from the beginning of the file on
        assert frame == min(round((time - onset) * 25), 74), (time, frame)
    spectrum = np.abs(np.fft.rfft(heard * np.hanning(len(heard))))
    assert abs(float(np.argmax(spectrum)) * 22_050 / len(heard) - 300) < 3


@pytest.mark.process
@pytest.mark.slow
async def test_the_head_of_a_clip_moves_with_the_voice() -> None:
    """The body is led through its segments, and is not played on from its beginning."""
    *_, body = make_loop(
        load_image(IRIS.read_bytes()), body_id="b", width=256, height=256, fps=Fraction(25), fit="crop"
    )
    assert isinstance(body, BodyLoop)

    def above(luma: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The picture above the mouth, small."""
        return cv2.resize(luma[:120], (64, 30), interpolation=cv2.INTER_AREA).astype(np.float32)

    known = np.stack([above(body.frame(k)[:256]) for k in range(len(body))])
    async with running_server(engine="portrait") as server, client(server) as http:
        size = {"width": 256, "height": 256, "fps": "25"}
        avatar_id = (await http.post("/v1/avatars", params=size, content=IRIS.read_bytes())).json()[
            "avatar_id"
        ]
        clip = await http.post(f"/v1/avatars/{avatar_id}/speech", content=wav(vowels(10, 16_000), 16_000))
    with cast(Any, av.open(io.BytesIO(clip.content))) as file:
        seen = np.stack([above(f.to_ndarray()[:256]) for f in file.decode(video=0)])
    away = ((seen[:, None] - known) ** 2).mean((2, 3))
    assert (away.min(1) < 4).mean() > 0.95  # every picture is one of the body's
    on = away[np.arange(len(seen)), np.arange(len(seen)) % len(body)]
    assert (on > 2 * away.min(1) + 4).mean() > 0.3


@pytest.mark.process
async def test_what_is_no_speech_is_refused_in_a_sentence() -> None:
    async with running_server(slots=1, speech_bytes=100_000, turn_ms=2000) as server:
        path = f"/v1/avatars/{await prepared(server)}/speech"
        async with client(server) as http, socket(server) as ws:
            for content, status, told in (
                (b"no sound", 400, "no WAV file that can be read"),
                (b"", 400, "no WAV file that can be read"),
                (wav(np.zeros(0, np.int16), 16_000), 400, "WAV"),
                (bytes(200_000), 413, "larger than the 100000 bytes"),
                (wav(tone(3), 16_000), 400, "longer than the 2 s of one turn"),
            ):
                answer = await http.post(path, content=content)
                assert answer.status_code == status and told in answer.json()["detail"], content[:10]
            answer = await http.post("/v1/avatars/nobody/speech", content=wav(tone(1), 16_000))
            assert answer.status_code == 404
            talk = Talk(ws)
            await talk.open(path.split("/")[3])
            await talk.say(tone(1), end=False)
            await talk.wait("turn_accepted")
            answer = await http.post(path, content=wav(tone(1), 16_000))
            assert answer.status_code == 429 and "speaking slots are taken" in answer.json()["detail"]


@pytest.mark.process
async def test_a_client_that_leaves_gives_its_slot_back() -> None:
    async with running_server(slots=1, engine_settings={"cost_ms_row": 30}) as server:
        path = f"/v1/avatars/{await prepared(server)}/speech"
        async with client(server) as http:
            async with http.stream("POST", path, content=wav(tone(20), 16_000)) as answer:
                async for _ in answer.aiter_raw():
                    break
            async with asyncio.timeout(15):
                while (await http.get("/v1/capacity")).json()["sessions"]:
                    await asyncio.sleep(0.1)


def test_wav_files_of_other_kinds_are_read() -> None:
    stereo = np.repeat(tone(1, rate=8000), 2)
    pcm, rate = read_wav(wav(stereo, 8000, channels=2))
    assert rate == 8000 and abs(len(pcm) - 8000) <= 1
    _, rate = read_wav(wav(tone(0.2, rate=96_000), 96_000))
    assert rate == 48_000
    _, rate = read_wav(wav(tone(0.2, rate=9000), 9000))
    assert rate == 11_025


def test_a_wav_of_another_codec_meets_no_decoder() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="wav") as out:
        stream: Any = out.add_stream("adpcm_ima_wav", rate=16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(tone(0.2).reshape(1, -1)[:, :505], format="s16p", layout="mono")
        frame.sample_rate = 16_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            out.mux(packet)
    with pytest.raises(RequestError, match="a WAV of IMA ADPCM is not supported: send 16-bit PCM"):
        read_wav(file.getvalue())


@pytest.mark.process
async def test_a_socket_without_a_playhead_gets_every_frame() -> None:
    async with running_server(slots=1, window_ms=200) as server, socket(server) as ws:
        talk = Talk(ws)
        await talk.open(await prepared(server), pace="none")
        await talk.say(tone(4))
        frames = []
        while True:
            message = await asyncio.wait_for(ws.recv(), 20)
            if isinstance(message, bytes):
                frames.append(message)
            elif '"turn_finished"' in message:
                break
        assert len(frames) == 4 * 25 + 3 and '"late": 0' in message


@pytest.mark.process
async def test_a_pace_that_is_unknown_is_refused() -> None:
    async with running_server(slots=1) as server, socket(server) as ws:
        talk = Talk(ws)
        await talk.send("open", avatar_id=await prepared(server), pace="fast")
        assert "pace must be one of playhead, none" in str(await refusal(ws))


@pytest.mark.process
@pytest.mark.parametrize(("engine", "has"), [("mock", "it has number, fault"), ("portrait", "it has none")])
async def test_settings_that_the_engine_has_not_are_refused(engine: str, has: str) -> None:
    async with running_server(engine=engine) as server, client(server) as http:
        asked = SIZE | {"settings": '{"bbox_shfit": "5"}'}
        answer = await http.post("/v1/avatars", params=asked, content=portrait())
        assert answer.status_code == 400
        assert f"the {engine} engine has no avatar setting 'bbox_shfit'; {has}" in answer.json()["detail"]


@pytest.mark.process
async def test_openapi_describes_every_route() -> None:
    async with running_server() as server, client(server) as http:
        document = (await http.get("/openapi.json")).json()
    wanted = {
        "/v1/avatars", "/v1/avatars/{avatar_id}", "/v1/avatars/{avatar_id}/body", "/v1/avatars/{avatar_id}/bundle",
        "/v1/avatars/{avatar_id}/speech", "/v1/bundles", "/v1/capabilities", "/v1/capacity", "/start", "/stop",
        "/idle_frame", "/metrics", "/healthz", "/readyz",
    }  # fmt: skip
    assert document["paths"].keys() == wanted
    for path, methods in document["paths"].items():
        for method, about in methods.items():
            assert about["summary"] and about["tags"], path
            assert "application/problem+json" in about["responses"]["default"]["content"], path
            assert any(code.startswith("2") for code in about["responses"]), path
            assert method == "get" or path == "/stop" or "requestBody" in about, path
    assert "/v1/converse" in document["info"]["summary"]


@pytest.mark.process
async def test_a_long_speech_is_said_no_earlier_than_it_is_needed() -> None:
    async with running_server(slots=1, audio_bytes=6400) as server, client(server) as http:
        path = f"/v1/avatars/{await prepared(server)}/speech"
        answer = await http.post(path, content=wav(tone(20, rate=8000), 8000), timeout=60)
        assert answer.status_code == 200
    opened: Any = av.open(io.BytesIO(answer.content))
    with opened as file:
        shown = [read_card(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    assert 500 <= len(shown) <= 505
    assert sum(card is not None and card.mouth is not None for card in shown) > 490
