"""What the face of a Pipecat bot does while nothing is said, in Pipecat's own ``run_test``."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    Frame,
    FunctionCallInProgressFrame,
    FunctionCallResultFrame,
    InputAudioRawFrame,
    InterruptionFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
    UserStartedSpeakingFrame,
    UserStoppedSpeakingFrame,
    VADUserStartedSpeakingFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.tests.utils import SleepFrame, run_test

from tests.support.fake_server import HEIGHT, SEGMENTS, WIDTH, fake_server, of_segments
from tests.support.house import tone
from tests.support.vowels import vowels
from visavis.pipecat import VisavisVideoService

LISTENS, THINKS, IDLES = {"breath", "tilt", "lift"}, {"away", "tilt"}, {"breath", "tilt"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


async def shown(*frames: Frame, before: Sequence[FrameProcessor] = ()) -> list[str | Frame]:
    """The segments that the body goes into, and between them the frames that came through."""
    async with fake_server(of_segments()) as server:
        face = VisavisVideoService(server.address, b"image of anna", width=WIDTH, height=HEIGHT)
        params = PipelineParams(audio_out_sample_rate=24_000)
        down, _ = await run_test(
            Pipeline([*before, face]), frames_to_send=list(frames), pipeline_params=params, start_timeout=60
        )
    seen: list[str | Frame] = []
    last = None
    for frame in down:
        if not isinstance(frame, OutputImageRawFrame):
            seen.append(frame)
            continue
        grey = int(np.frombuffer(frame.image, np.uint8)[0])  # luma 16 + i, in full range
        index = round(grey * 219 / 255)
        if index != last and index in SEGMENTS:
            seen.append(SEGMENTS[index])
        last = index
    return seen


def between(seen: Sequence[str | Frame], first: type[Frame], last: type[Frame] | None = None) -> list[str]:
    """What the body went into after the first frame of one kind, before the next of another.

    The first segment may have been chosen, and its picture on its way, before.
    """
    kinds = [type(each) for each in seen]
    start = kinds.index(first)
    end = kinds.index(last, start) if last is not None else len(seen)
    return [each for each in seen[start:end] if isinstance(each, str)]


def speech(seconds: float) -> list[Frame]:
    return [
        TTSStartedFrame(),
        TTSAudioRawFrame(tone(seconds, rate=24_000).tobytes(), 24_000, 1),
        TTSStoppedFrame(),
    ]


async def test_it_listens_nods_at_a_pause_and_thinks_until_it_speaks() -> None:
    seen = await shown(
        *(SleepFrame(0.5), VADUserStartedSpeakingFrame(), UserStartedSpeakingFrame(), SleepFrame(2.2)),
        *(VADUserStoppedSpeakingFrame(), SleepFrame(0.55), UserStoppedSpeakingFrame()),
        *(LLMFullResponseStartFrame(), SleepFrame(2.2), *speech(1), LLMFullResponseEndFrame(), SleepFrame(4)),
    )
    listening = between(seen, UserStartedSpeakingFrame, VADUserStoppedSpeakingFrame)
    assert len(listening) >= 4 and set(listening[1:]) <= LISTENS
    assert "nod" in between(seen, VADUserStoppedSpeakingFrame, UserStoppedSpeakingFrame)
    thinking = between(seen, LLMFullResponseStartFrame, TTSStartedFrame)
    assert len(thinking) >= 4 and set(thinking[1:]) == THINKS
    after = between(seen, LLMFullResponseEndFrame)[1:]  # the first may be of the speech yet
    assert len(after) >= 6 and "breath" in after and set(after) <= IDLES  # it thinks no more


async def test_it_listens_where_pipecat_hears_the_user() -> None:
    def microphone(sound: NDArray[np.int16]) -> list[Frame]:
        pieces = [InputAudioRawFrame(piece.tobytes(), 16_000, 1) for piece in sound.reshape(-1, 320)]
        return [each for piece in pieces for each in (piece, SleepFrame(0.02))]

    hearing = LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    users, _ = LLMContextAggregatorPair(LLMContext(), user_params=hearing)
    quiet = np.zeros(16_000, np.int16)
    seen = await shown(*microphone(np.concatenate((quiet, vowels(3, 16_000), quiet))), before=[users])
    listening = between(seen, VADUserStartedSpeakingFrame, VADUserStoppedSpeakingFrame)[1:]
    assert len(listening) >= 4 and set(listening) <= LISTENS


def called(name: str, waited_for: bool = True) -> Frame:
    return FunctionCallInProgressFrame(name, name, {}, cancel_on_interruption=waited_for)


async def test_a_response_that_says_nothing_or_is_cut_is_thought_of_no_more() -> None:
    seen = await shown(
        *(LLMFullResponseStartFrame(), SleepFrame(0.5), LLMFullResponseEndFrame(), SleepFrame(3)),
        *(LLMFullResponseStartFrame(), SleepFrame(2), InterruptionFrame(), SleepFrame(3)),
    )
    assert "breath" in between(seen, LLMFullResponseEndFrame, InterruptionFrame)
    assert "breath" in between(seen, InterruptionFrame)


async def test_it_thinks_on_after_words_that_are_said_while_a_function_runs() -> None:
    seen = await shown(
        *(LLMFullResponseStartFrame(), called("weather"), *speech(0.5), LLMFullResponseEndFrame()),
        *(SleepFrame(4), FunctionCallResultFrame("weather", "weather", {}, "rain"), SleepFrame(3)),
    )
    thinking = between(seen, LLMFullResponseEndFrame, FunctionCallResultFrame)
    assert len(thinking) >= 6 and set(thinking[1:]) == THINKS
    assert "breath" in between(seen, FunctionCallResultFrame)


async def test_a_function_that_nobody_waits_for_is_not_thought_of() -> None:
    seen = await shown(called("report", waited_for=False), SleepFrame(4))
    assert "breath" in between(seen, FunctionCallInProgressFrame)


async def test_what_an_application_knows_is_shown() -> None:
    async with fake_server(of_segments()) as server:
        face = VisavisVideoService(server.address, b"image of anna", width=WIDTH, height=HEIGHT)
        face.show_state("thinking")  # without a face yet
        params = PipelineParams(audio_out_sample_rate=24_000)

        async def tell() -> None:
            while face._face is None:
                await asyncio.sleep(0.01)
            face.show_state("thinking")

        telling = asyncio.create_task(tell())
        down, _ = await run_test(
            face, frames_to_send=[SleepFrame(3)], pipeline_params=params, start_timeout=60
        )
        await telling
    indices = [
        round(int(np.frombuffer(f.image, np.uint8)[0]) * 219 / 255)
        for f in down
        if isinstance(f, OutputImageRawFrame)
    ]
    assert {SEGMENTS[index] for index in indices[11:] if index in SEGMENTS} == THINKS


async def test_a_reply_whose_voice_fails_is_thought_of_no_more() -> None:
    seen = await shown(
        *(LLMFullResponseStartFrame(), SleepFrame(0.5), TTSStartedFrame(), LLMFullResponseEndFrame()),
        *(TTSStoppedFrame(), SleepFrame(3)),
    )
    assert "breath" in between(seen, TTSStoppedFrame)
