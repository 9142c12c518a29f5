"""Lines other than PCMU through RoomKit, with a real phone; and the avatar's picture in a room's recording."""

from __future__ import annotations

import asyncio
import sys
import wave
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from aiortp import codecs
from aiortp.codecs.opus import OpusCodec
from aiosipua import sdp
from roomkit.recorder.base import ChannelRecordingConfig, MediaRecordingConfig, RoomRecorderBinding
from roomkit.recorder.pyav import PyAVMediaRecorder
from roomkit.video.pipeline.encoder.pyav import PyAVVideoEncoder

from testing.caller import Phone
from testing.card import read_card
from tests.peers.baresip import baresip
from tests.support.house import picture, tone
from tests.support.servers import running_server
from tests.with_roomkit.app import App, roomkit_app
from tests.with_roomkit.test_call import FPS, SIZE, provider_of
from visavis import AvatarVideoChannel
from visavis.roomkit.provider import ServerAvatarProvider

RATE_ALONE, AS_IN_RFC_7587 = "opus/48000\r\n", "opus/48000/2\r\n"

pytestmark = [pytest.mark.slow, pytest.mark.process, pytest.mark.usefixtures("providers_loop")]


def channel_over(server: Any, tmp_path: Path) -> Any:
    """Makes the channel of an application."""

    async def face(_: object) -> ServerAvatarProvider:
        avatar = provider_of("http", server, tmp_path)
        await avatar.start(picture(), width=SIZE, height=SIZE)
        return avatar

    def encoder(avatar: Any) -> PyAVVideoEncoder:
        return PyAVVideoEncoder(avatar.width, avatar.height, avatar.fps, preset="ultrafast")

    def make(backend: Any, voice: dict[str, Any]) -> AvatarVideoChannel:
        recording = ChannelRecordingConfig(
            audio=True
        )  # RoomKit waits for the picture of a caller who sends none
        return AvatarVideoChannel(
            "voice",
            backend=backend,
            avatar_factory=face,
            encoder_factory=encoder,
            recording=recording,
            **voice,
        )

    return make


@pytest.mark.peer("baresip", "ffmpeg")
@pytest.mark.parametrize(
    ("payload_type", "codec", "rate"), [(9, "G722/8000/1", 16_000), (96, "opus/48000/2", 48_000)]
)
async def test_a_call_of_a_wide_band_codec_talks(
    payload_type: int, codec: str, rate: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RoomKit knows codecs by payload type, Opus as 111: this phone offers it as 96. And it leaves the ``/2`` of
    Opus out of its answers (RFC 7587, section 7), without which this phone takes no voice: it is put in."""
    monkeypatch.setitem(codecs._registry, 96, OpusCodec)
    written = sdp.serialize_sdp
    for module in [each for each in sys.modules.values() if getattr(each, "serialize_sdp", None) is written]:
        monkeypatch.setattr(
            module, "serialize_sdp", lambda told: written(told).replace(RATE_ALONE, AS_IN_RFC_7587)
        )
    async with (
        running_server() as server,
        roomkit_app(
            channel_over(server, tmp_path / "bodies"), rate=rate, supported_codecs=(payload_type,)
        ) as app,
        baresip(tmp_path / "phone", codec) as phone,
    ):
        await phone.command("dial", app.uri)
        await phone.wait("CALL_ESTABLISHED")
        session = await app.call()
        assert session.metadata["codec_sample_rate"] == rate
        await asyncio.sleep(2)
        speaking = asyncio.create_task(app.say(session, tone(6, 300, rate)))
        frames: list[int] = []
        while not speaking.done():
            image = cv2.imread(str(await phone.snapshot()))
            card = read_card(image[..., ::-1]) if image is not None else None
            if card is not None and card.mouth is not None:
                frames.append(card.mouth.frame)
            await asyncio.sleep(0.2)
        await speaking
        await phone.command("hangup")
        await phone.wait("CALL_CLOSED")
        assert len(frames) >= 3 and frames == sorted(frames) and frames[-1] <= 6 * FPS
        with wave.open(str(phone.heard)) as file:
            heard = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(float)
            heard = heard[:: file.getnchannels()]
            at = file.getframerate()
        loud = heard[np.flatnonzero(np.abs(heard) > 2000)[0] :][: 4 * at]
        spectrum = np.abs(np.fft.rfft(loud * np.hanning(len(loud))))
        assert abs(float(np.argmax(spectrum)) * at / len(loud) - 300) < 5  # at its own speed


@pytest.mark.peer
async def test_the_avatars_picture_is_in_the_rooms_recording(tmp_path: Path) -> None:
    folder = tmp_path / "recordings"

    def recorders() -> list[RoomRecorderBinding]:
        config = MediaRecordingConfig(storage=str(folder), storage_encrypted_at_rest=True, video_fps=FPS)
        return [RoomRecorderBinding(PyAVMediaRecorder(), config)]

    async def before_join(app: App, session: Any) -> None:
        assert isinstance(app.channel, AvatarVideoChannel)
        assert await app.channel.record_picture(app.kit, session.id, session, width=SIZE, height=SIZE)

    async with running_server() as server:
        make = channel_over(server, tmp_path / "bodies")
        async with roomkit_app(make, recorders=recorders, before_join=before_join) as app:
            async with Phone(app.uri):
                session = await app.call()
                await asyncio.sleep(2)
                await app.say(session, tone(3, rate=8000))
                await asyncio.sleep(1)
            await app.kit.close_room(session.id)
    (clip,) = folder.rglob("*.mp4")
    with av.open(str(clip)) as file:
        shown = [read_card(frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
    cards = [card for card in shown if card is not None]
    mouths = [card.mouth.frame for card in cards if card.mouth is not None]
    assert len(cards) > 2 * FPS and len(mouths) > FPS and cards[0].mouth is None
    assert max(mouths) > 2.5 * FPS
