"""The embedded voices: real speech, several calls at once, whatever else the process's threads do."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from orchestrator.speech.base import PCM, SpeechError, TextToSpeech, VoiceByLanguage
from orchestrator.speech.espeak import EspeakVoice
from orchestrator.speech.hibari import HibariVoice
from orchestrator.speech.voices import installed_voices

TEXT = "One sentence to begin with. And here comes the second one."


@contextlib.asynccontextmanager
async def busy_threads() -> AsyncIterator[None]:
    """The event loop's own threads are all taken, as by slow disks and names that do not resolve."""
    done = threading.Event()
    executor = ThreadPoolExecutor(1)
    asyncio.get_running_loop().set_default_executor(executor)
    executor.submit(done.wait)
    try:
        yield
    finally:
        done.set()


def in_its_own_process(what: Callable[..., Coroutine[None, None, None]], *args: object) -> None:
    """espeak-ng's library must not be started twice in a process, and other tests start it for the training."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        pool.submit(run, what, *args).result()


def run(what: Callable[..., Coroutine[None, None, None]], *args: object) -> None:
    asyncio.run(what(*args))


async def spoken(voice: TextToSpeech, language: str, text: str = TEXT) -> PCM:
    return np.concatenate([chunk async for chunk in voice.stream(text, language)])


@pytest.mark.process
def test_the_english_voice_reports_to_nobody() -> None:
    in_its_own_process(nothing_is_collected)


async def nothing_is_collected() -> None:
    """onnxruntime collects events for its maker in a database under ``.cache``."""
    await spoken(HibariVoice(), "en", "One.")
    for descriptor in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the listing's own
            assert "onnxruntime" not in str(descriptor.readlink())


@pytest.mark.process
@pytest.mark.parametrize(("make", "language"), [(HibariVoice, "en"), (EspeakVoice, "de")])
def test_calls_at_once_are_all_spoken_to(make: type[TextToSpeech], language: str) -> None:
    in_its_own_process(calls_at_once, make, language)


async def calls_at_once(make: type[TextToSpeech], language: str) -> None:
    voice = make()
    async with busy_threads(), asyncio.timeout(60):
        alone = await spoken(voice, language)
        together = await asyncio.gather(*(spoken(voice, language) for _ in range(4)))
    assert alone.dtype == np.int16
    assert 2 < len(alone) / voice.sample_rate < 10
    assert np.abs(alone).max() > 3000
    for sound in together:
        assert len(sound) == pytest.approx(len(alone), rel=0.05)


async def test_the_first_sentence_comes_before_the_last_is_spoken() -> None:
    voice = HibariVoice()
    chunks = [len(chunk) async for chunk in voice.stream(TEXT, "en")]
    assert len(chunks) == 2


@pytest.mark.process
def test_a_call_that_stops_listening_leaves_the_voice_to_others() -> None:
    in_its_own_process(call_that_stops_listening)


async def call_that_stops_listening() -> None:
    voice = EspeakVoice()
    async with asyncio.timeout(60):
        async with contextlib.aclosing(voice.stream(TEXT * 20, "en-us")) as stream:
            async for _ in stream:
                break
        assert len(await spoken(voice, "fr", "Bonjour.")) > 0


def test_a_language_without_a_voice_is_an_error() -> None:
    with pytest.raises(SpeechError, match="no voice speaks 'de': choose one of en"):
        VoiceByLanguage({"en": HibariVoice}).voice("de")


@pytest.mark.parametrize(
    ("language", "voice"),
    [
        ("en", HibariVoice),
        ("en_US", HibariVoice),
        ("en-GB-scotland", HibariVoice),
        ("de-DE", EspeakVoice),
        ("de_AT", EspeakVoice),
        ("pt-BR", EspeakVoice),
        ("zh-Hant-TW", EspeakVoice),
    ],
)
def test_a_region_without_a_voice_of_its_own_gets_its_languages(
    language: str, voice: type[TextToSpeech]
) -> None:
    assert type(installed_voices().voice(language)) is voice


@pytest.mark.parametrize(
    "language", ["xx", "tlh", "", "-", "english", "../../de", "de/../fr", "/etc/passwd", "d\0e"]
)
def test_an_unknown_language_is_refused_with_the_list(language: str) -> None:
    with pytest.raises(SpeechError, match=r"no voice speaks .*: choose one of .*\bde\b.*\ben\b.*\bzh$"):
        installed_voices().check(language)


@pytest.mark.process
def test_espeak_is_asked_for_voices_that_it_has() -> None:
    in_its_own_process(voices_that_it_has)


async def voices_that_it_has() -> None:
    voice = EspeakVoice()
    for language in ("de-DE", "zh", "no", "pt_BR", "ca-va"):
        assert len(await spoken(voice, language, "1 2 3")) > 0
    for language in ("../../lang/gmw/de", "gmw/de", "German", "xx"):
        with pytest.raises(SpeechError, match="espeak-ng has no voice"):
            await spoken(voice, language)
