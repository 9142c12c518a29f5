"""The listening process: hears what is said, and dies without a call's loss."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from orchestrator.listening.activity import FRAME
from orchestrator.listening.context import Understood
from orchestrator.listening.ear import LULL_FRAMES, OVER_VOICE_FRAMES, EarEvent
from orchestrator.listening.ears import Ears
from orchestrator.listening.messages import EarMessage, Hear, SpeechBegan, SpeechPaused, Words
from orchestrator.listening.process import CallEar
from orchestrator.listening.recognition import Recognition
from orchestrator.listening.stt import Recognised, SttSettings
from tests.listening.support import silence, speech
from tests.support.scripted import script, websocket_service
from tests.support.waiting import until
from visavis.service.supervisor import Supervisor


@contextlib.asynccontextmanager
async def running(recognition: SttSettings | None = None) -> AsyncIterator[Ears]:
    ears, supervisor = Ears(recognition=recognition), Supervisor()
    ears.start(supervisor)
    try:
        async with asyncio.timeout(60):
            await until(lambda: ears.state is not None)
            yield ears
    finally:
        await ears.close()
        await supervisor.close()


def say(ears: Ears, sound: np.ndarray, position: int, call: str = "a") -> int:
    pcm = (sound * 32767).astype("<i2")
    for at in range(0, len(pcm) - 319, 320):
        reference = bytes(320)
        payload = pcm[at : at + 320].tobytes() + reference
        ears.hear(Hear(call, position, len(reference), 8000, payload))
        position += 320
    return position


def test_what_was_sent_goes_with_the_voice_that_came_then_however_long_that_has_waited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pairs = list[tuple[int, int]]()

    def hear(near: np.ndarray, far: np.ndarray) -> list[EarEvent]:
        pairs.append((round(near[-1] * 32768), round(far[-1] * 32768)))
        return []

    ear = CallEar(Recognition(lambda state: None).of_call("en", 16_000))
    monkeypatch.setattr(ear.ear, "hear", hear)
    for step, behind in enumerate([2] * 20 + [0] * 10 + [1] * 10):
        voice, sent = np.full(320, step - behind, "<i2"), np.full(320, step, "<i2")
        ear.hear(Hear("a", step * 320, 640, 16_000, voice.tobytes() + sent.tobytes(), behind * 320))
    assert all(voice == sent for voice, sent in pairs[3:])


async def test_what_was_recognised_early_is_not_recognised_again_where_only_quiet_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recognition, asked = Recognition(lambda state: None), list[int]()

    async def own(sound: np.ndarray, before: object, wanted: Callable[[], bool]) -> Understood:
        asked.append(len(sound))
        return Understood(sound, (), "Mhm.")

    monkeypatch.setattr(recognition, "own", own)
    call = recognition.of_call("en", 8000)
    word, quiet = (
        np.ones(20 * FRAME, np.float32),
        np.zeros((OVER_VOICE_FRAMES - LULL_FRAMES) * FRAME, np.float32),
    )
    for sound, times in ((np.concatenate((word, quiet)), 1), (np.concatenate((word, quiet + 0.1, quiet)), 2)):
        asked.clear()
        assert await call.early_words(word, lambda: True) == Recognised("Mhm.")
        assert await call.words(sound, lambda: True) == Recognised("Mhm.")
        assert len(asked) == times
    await recognition.close()


@pytest.mark.process
async def test_words_come_back_and_a_dead_process_is_followed_by_another() -> None:
    utterance = np.concatenate((silence(0.5), speech("Hello there."), silence(0.5)))
    async with running() as ears:
        assert ears.state is not None and ears.state.recognises
        said: list[EarMessage] = []
        ears.listen("a", said.append)
        position = 0
        for _ in range(2):
            position = say(ears, utterance, position)
            await until(lambda: any(isinstance(each, Words) for each in said))
            began, paused, words = said
            assert isinstance(began, SpeechBegan) and isinstance(paused, SpeechPaused)
            assert isinstance(words, Words) and words.text.startswith("Hello")
            assert paused.pause == words.pause
            said.clear()
            assert ears.pid is not None
            os.kill(ears.pid, signal.SIGKILL)
            await until(lambda: ears.state is None)
            assert ears.process.state == "starting" and "SIGKILL" in ears.process.reason
            await until(lambda: ears.state is not None)
        process = ears.process
        assert (process.state, process.restarts, process.pid) == ("ready", 2, ears.pid)


@pytest.mark.process
async def test_a_service_recognises_and_where_it_fails_the_installed_one_does() -> None:
    utterance = np.concatenate((silence(0.5), speech("Hello there."), silence(0.5)))
    async with (
        websocket_service(script("deepgram"), script("deepgram_429")) as service,
        running(SttSettings("deepgram", service.url, "a-key")) as ears,
    ):
        said: list[EarMessage] = []
        ears.listen("a", said.append, "en-GB")
        position = say(ears, utterance, 0)
        await until(lambda: any(isinstance(each, Words) for each in said))
        words = said[-1]
        assert isinstance(words, Words) and words.text == "When are you open?" and words.words
        assert ears.service is not None and ears.service.state == "works"
        ears.take("a", words.pause)
        ears.leave("a")
        ears.listen("b", said.append, "en-GB")
        say(ears, utterance, position, "b")
        await until(lambda: isinstance(said[-1], Words) and said[-1] is not words)
        own = said[-1]
        assert isinstance(own, Words) and own.text.startswith("Hello") and not own.failed
        await until(lambda: ears.service is not None and ears.service.state == "rests")
        assert ears.service.reason == "Deepgram answered 429" and ears.service.faults == 1


async def test_what_nobody_listens_to_is_not_sent() -> None:
    ears = Ears()
    assert ears.process.state == "off"
    ears.hear(Hear("a", 0, 0, 8000, bytes(640)))
    ears.leave("a")
