"""A Pipecat bot with a face, in Pipecat's own ``run_test``: what goes on to the transport."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    InterruptionFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    TTSTextFrame,
)
from pipecat.pipeline.worker import PipelineParams
from pipecat.tests.utils import SleepFrame, run_test

from testing.card import CardReading, read_card
from tests.support.house import picture, tone
from tests.support.servers import running_server, start_inference_server
from visavis import ServerPool
from visavis.pipecat import VisavisVideoService

SIZE, FPS, RATE = 320, 25, 24_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def face(servers: str | ServerPool, seed: int = 0, **options: Any) -> VisavisVideoService:
    return VisavisVideoService(servers, picture(seed), width=SIZE, height=SIZE, fps=FPS, **options)


def reply(sound: NDArray[np.int16], rate: int = RATE, stop: bool = True) -> list[Frame]:
    """As a text to speech service says it, at once, with a text in the middle."""
    half = len(sound) // 2
    pieces: list[Frame] = [TTSStartedFrame()]
    for part, text in ((sound[:half], "first"), (sound[half:], "second")):
        pieces += [
            TTSAudioRawFrame(part[at : at + rate // 10].tobytes(), rate, 1)
            for at in range(0, len(part), rate // 10)
        ]
        pieces.append(TTSTextFrame(text, "sentence"))
    return [*pieces, TTSStoppedFrame()] if stop else pieces


async def through(service: VisavisVideoService, frames: Sequence[Frame]) -> tuple[list[Frame], list[Frame]]:
    """What comes out of the service, downstream and upstream."""
    params = PipelineParams(audio_out_sample_rate=RATE)
    down, up = await run_test(service, frames_to_send=frames, pipeline_params=params, start_timeout=60)
    return list(down), list(up)


def card_of(frame: OutputImageRawFrame) -> CardReading | None:
    width, height = frame.size
    return read_card(np.frombuffer(frame.image, np.uint8).reshape(height, width, 3))


def voice(frames: Sequence[Frame]) -> NDArray[np.int16]:
    parts = [np.frombuffer(f.audio, np.int16) for f in frames if isinstance(f, TTSAudioRawFrame)]
    return np.concatenate([np.zeros(0, np.int16), *parts])


def pictures(frames: Sequence[Frame]) -> list[CardReading | None]:
    return [card_of(f) for f in frames if isinstance(f, OutputImageRawFrame)]


def offsets(frames: Sequence[Frame]) -> list[int]:
    """Of every picture with a mouth and a sound: frame of the mouth less frame of the sound."""
    found, samples, before = [], 0, None
    for frame in frames:
        if isinstance(frame, OutputImageRawFrame):
            before = card_of(frame)
        elif isinstance(frame, TTSAudioRawFrame):
            if before is not None and before.mouth is not None:
                found.append(before.mouth.frame - round(samples * FPS / RATE))
            samples += frame.num_frames
    return found


@pytest.mark.process
async def test_a_reply_is_heard_whole_with_its_lips_and_its_texts_in_time() -> None:
    told: list[tuple[Any, ...]] = []
    async with running_server() as server:
        service = face(server.address)

        async def started(_: object) -> None:
            told.append(())

        async def finished(_: object, position: float, interrupted: bool) -> None:
            told.append((position, interrupted))

        service.add_event_handler("on_speech_started", started)
        service.add_event_handler("on_speech_finished", finished)
        sound = tone(3, rate=RATE)
        down, up = await through(service, [SleepFrame(0.5), *reply(sound), SleepFrame(3.8)])
    assert np.array_equal(voice(down), sound)
    found = offsets(down)
    print(f"{len(found)} mouths, offsets {sorted(set(found))}")
    assert len(found) > 45 and found.count(0) >= 0.95 * len(found)
    speaking = [f for f in down if isinstance(f, OutputImageRawFrame) and f.metadata["turn_id"] is not None]
    assert len(speaking) == 3 * FPS and speaking[25].metadata["position"] == pytest.approx(1.0)
    assert len(pictures(down)) > 3 * FPS + 10  # idle before and after
    assert told == [(), (pytest.approx(3.0, abs=0.001), False)]
    kinds = [f for f in down if isinstance(f, TTSStartedFrame | TTSTextFrame | TTSStoppedFrame)]
    assert [type(f) for f in kinds] == [TTSStartedFrame, TTSTextFrame, TTSTextFrame, TTSStoppedFrame]
    first, second, stopped = (down.index(f) for f in kinds[1:])
    assert len(voice(down[:first])) == pytest.approx(len(sound) / 2, abs=RATE / FPS + 1)
    assert len(voice(down[:second])) == len(voice(down[:stopped])) == len(sound)
    assert not [f for f in up if isinstance(f, ErrorFrame)]


@pytest.mark.process
async def test_an_interruption_drops_voice_and_texts_that_were_not_heard() -> None:
    told: list[tuple[float, bool]] = []
    async with running_server() as server:
        service = face(server.address)

        async def finished(_: object, position: float, interrupted: bool) -> None:
            told.append((position, interrupted))

        service.add_event_handler("on_speech_finished", finished)
        cut = [*reply(tone(6, rate=RATE)), SleepFrame(1.8), InterruptionFrame(), SleepFrame(0.4)]
        down, _ = await through(service, [*cut, *reply(tone(1, rate=RATE)), SleepFrame(1.8)])
    at = next(index for index, f in enumerate(down) if isinstance(f, InterruptionFrame))
    heard = len(voice(down[:at])) / RATE
    assert 0.5 < heard < 2
    assert told[0] == (pytest.approx(heard, abs=0.041), True)
    assert told[1] == (pytest.approx(1.0, abs=0.001), False)
    assert np.array_equal(voice(down[at:]), tone(1, rate=RATE))
    assert [f.text for f in down if isinstance(f, TTSTextFrame)] == ["first", "second"]  # of the second reply
    again = next(i for i, f in enumerate(down) if i > at and isinstance(f, TTSAudioRawFrame))
    between = pictures(down[at + 1 : again - 8])
    assert len(between) > 2 and all(card and card.mouth is None for card in between[1:])


@pytest.mark.process
async def test_sentences_that_follow_at_once_are_one_turn_and_the_end_waits_for_them() -> None:
    async with running_server() as server:
        sound = tone(1, rate=16_000)
        sentences = [frame for _ in range(3) for frame in reply(sound, 16_000)]
        down, _ = await through(face(server.address), sentences)
    assert len(voice(down)) == 3 * RATE
    turns = [f.metadata["turn_id"] for f in down if isinstance(f, OutputImageRawFrame)]
    assert {turn for turn in turns if turn is not None} == {1}
    spoken = [i for i, turn in enumerate(turns) if turn is not None]
    assert spoken == list(range(spoken[0], spoken[0] + 3 * FPS))  # without a pause
    stops = [i for i, f in enumerate(down) if isinstance(f, TTSStoppedFrame)]
    assert [len(voice(down[:i])) for i in stops] == [
        pytest.approx(n * RATE, abs=RATE / FPS + 1) for n in (1, 2, 3)
    ]


@pytest.mark.process
@pytest.mark.slow
async def test_a_lost_server_costs_lips_and_never_the_voice(tmp_path: Path) -> None:
    server = await start_inference_server(cache_dir=tmp_path / "server")
    again: list[Any] = []

    async def restart() -> None:
        await asyncio.sleep(3)
        server.kill()
        await server.process.wait()
        port = int(server.address.rpartition(":")[2])
        again.append(await start_inference_server(cache_dir=tmp_path / "server", port=port))

    try:
        sound = tone(14, rate=RATE)
        restarting = asyncio.create_task(restart())
        down, _ = await through(face(server.address), reply(sound))
        await restarting
        assert np.array_equal(voice(down), sound)
        frames = [card.mouth.frame for card in pictures(down) if card is not None and card.mouth is not None]
        assert min(frames) < 60 and max(frames) > 12 * FPS
        assert offsets(down)[-1] == 0
    finally:
        for one in (server, *again):
            one.kill()
            await one.process.wait()
            if one.follower is not None:
                await one.follower


@pytest.mark.process
async def test_two_bots_of_one_pool_do_not_mix() -> None:
    async with running_server() as server, ServerPool(f"http://127.0.0.1:{server.http_port}") as pool:
        said = [tone(1, hertz, RATE) for hertz in (300, 900)]
        both = await asyncio.gather(
            *(through(face(pool, seed), reply(sound)) for seed, sound in enumerate(said))
        )
    numbers = []
    for (down, _), sound in zip(both, said, strict=True):
        assert np.array_equal(voice(down), sound)
        (number,) = {card.number for card in pictures(down) if card is not None}
        numbers.append(number)
    assert numbers[0] != numbers[1]


async def test_without_a_face_the_voice_passes_as_it_comes() -> None:
    sound = tone(1, rate=RATE)
    down, up = await through(face("127.0.0.1:1", wait_s=0.1), reply(sound))
    assert np.array_equal(voice(down), sound) and not pictures(down)
    assert isinstance(down[-1], TTSStoppedFrame)
    assert not [f for f in up if isinstance(f, ErrorFrame)]


@pytest.mark.process
async def test_a_portrait_that_cannot_be_used_is_an_error_in_pipecats_terms() -> None:
    async with running_server() as server:
        service = VisavisVideoService(server.address, b"no picture", width=SIZE, height=SIZE)
        _, up = await through(service, reply(tone(0.5, rate=RATE)))
    errors = [f.error for f in up if isinstance(f, ErrorFrame)]
    assert len(errors) == 1 and errors[0].startswith("The face cannot be shown: ")
