"""The voices process: what it speaks is trimmed and levelled, and it may die."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator

import numpy as np
import pytest

from orchestrator.speech.base import Foresight, SpeechError, Stretch, TimedSpeech
from orchestrator.speech.finish import LEVEL_DBFS, PEAK_DBFS, active_level, powers
from orchestrator.speech.heard_text import HeardText
from orchestrator.speech.remote import SentenceCache, VoicesProcess, remote_voices
from orchestrator.speech.spoken import spoken, whole
from visavis.service.supervisor import Supervisor

TEXT = "One sentence to begin with. And here comes the second one."


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[VoicesProcess]:
    process, supervisor = VoicesProcess(), Supervisor()
    process.start(supervisor)
    try:
        async with asyncio.timeout(60):
            yield process
    finally:
        await process.close()
        await supervisor.close()


@pytest.mark.process
@pytest.mark.parametrize(("language", "voice"), [("en", "HibariVoice"), ("de", "EspeakVoice")])
async def test_voices_are_of_one_level_with_short_pauses(language: str, voice: str) -> None:
    async with running() as process:
        heard = HeardText()
        speaker = remote_voices(process).voice(language)
        pcm = np.concatenate([each async for each in spoken(speaker, whole(TEXT), language, heard)])
        rate = speaker.sample_rate
    power = powers(pcm, rate)
    assert 10 * np.log10(active_level(power)) == pytest.approx(LEVEL_DBFS, abs=1.0)
    assert 20 * np.log10(np.abs(pcm).max() / 32768) <= PEAK_DBFS + 0.01
    (loud,) = np.nonzero(power > active_level(power) * 10**-3.5)
    assert loud[0] * 5 <= 30
    pauses = np.diff(loud)[np.diff(loud) * 5 > 200] * 5
    assert [250 <= pause <= 400 for pause in pauses] == [True]
    assert heard.heard(len(pcm) * 1000 / rate) == TEXT


@pytest.mark.process
async def test_times_of_words_come_with_the_sound_and_out_of_the_cache() -> None:
    async with running() as process:
        voice = remote_voices(process).voice("en")
        assert isinstance(voice, TimedSpeech)
        first, second = [[each async for each in voice.timed("It is 1999.", "en")] for _ in range(2)]
    assert first == second
    (stretch,) = first
    it, is_, year = stretch.middles_ms
    assert 0 < it < is_ < year < len(stretch.pcm) / 24


@pytest.mark.process
async def test_a_sentence_survives_the_death_of_the_process() -> None:
    async with running() as process:
        voice = remote_voices(process).voice("en")
        for _ in range(2):
            waiting = asyncio.create_task(anext(voice.stream(f"Sentence {process.pid} for you.", "en")))
            while process.pid is None:
                await asyncio.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            assert len(await waiting) > 12_000


@pytest.mark.process
async def test_what_cannot_be_spoken_is_one_sentence() -> None:
    async with running() as process:
        with pytest.raises(SpeechError, match="espeak-ng has no voice"):
            await process.speak("Hello.", "xx", "EspeakVoice")


async def test_a_cached_sentence_needs_no_process() -> None:
    process = VoicesProcess()
    process.cache.put("One moment, please.", "en", 24_000, Stretch(np.ones(10, np.int16), (5.0,)))
    rate, spoken = await process.speak("One moment, please.", "en", "HibariVoice")
    assert (rate, len(spoken.pcm), spoken.middles_ms) == (24_000, 10, (5.0,))


@pytest.mark.process
async def test_a_sentence_that_is_foreseen_is_spoken_once() -> None:
    async with running() as process:
        voice = remote_voices(process).voice("en")
        assert isinstance(voice, Foresight)
        voice.ahead("This may be said soon.", "en")
        voice.ahead("This may be said soon.", "en")
        first = await anext(voice.stream("This may be said soon.", "en"))
        assert first is await anext(voice.stream("This may be said soon.", "en"))
        voice.ahead("And this is never said.", "en")


def test_the_cache_forgets_the_oldest_first_but_not_what_is_kept() -> None:
    cache = SentenceCache(most_bytes=50)
    cache.keep("kept", "en")
    for text in ("kept", "a", "b", "c"):
        cache.put(text, "en", 8000, Stretch(np.zeros(10, np.int16)))
    assert [cache.get(text, "en") is not None for text in ("kept", "a", "b", "c")] == [
        True,
        False,
        False,
        True,
    ]
