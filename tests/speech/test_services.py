"""Voices of others: scripts of them on the loopback, faults included, and the voice of ours behind them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from orchestrator.speech import openai, service
from orchestrator.speech import spoken as spoken_module
from orchestrator.speech.base import PCM, SpeechError, Stretch, TimedSpeech, joined
from orchestrator.speech.elevenlabs import ElevenLabsVoice, WordTimes
from orchestrator.speech.finish import LEVEL_DBFS, active_level, finished, powers
from orchestrator.speech.heard_text import HeardText
from orchestrator.speech.openai import OpenAIVoice
from orchestrator.speech.remote import SentenceCache
from orchestrator.speech.service import ServiceVoice, TtsSettings, VoiceService
from orchestrator.speech.spoken import spoken, whole
from orchestrator.speech.stream_finish import StreamFinish, VoiceLevel
from tests.support.scripted import Service, http_service, script, websocket_service
from tests.support.speech import speech
from tests.support.waiting import until
from visavis.service.breaker import CircuitBreaker
from visavis.service.secret import Secret

TEXT = "We are open."


@contextlib.asynccontextmanager
async def serving(kind: str, *names: str) -> AsyncIterator[tuple[Service, VoiceService]]:
    scripts = (script(f"{kind}{name}") for name in names)
    async with (websocket_service if kind == "elevenlabs" else http_service)(*scripts) as running:
        url = running.url if kind == "elevenlabs" else running.http
        settings = TtsSettings(url, Secret("secret-key"), "", "a voice")
        voice = ElevenLabsVoice(settings) if kind == "elevenlabs" else OpenAIVoice(settings)
        try:
            yield running, voice
        finally:
            await voice.close()


async def test_elevenlabs_speaks_a_sentence_and_says_when_its_words_are_heard() -> None:
    async with serving("elevenlabs", "") as (running, voice):
        got = [each async for each in voice.speak(TEXT, "de-AT")]
        assert sum(len(each.pcm) for each in got) == 16_000
        # "We" is its first two characters of 80 ms; "open." begins in the second half second.
        assert [middle for each in got for middle in each.middles_ms] == [80.0, 360.0, 730.0]
        first, *rest = running.came
        assert first == {"text": " ", "voice_settings": {"stability": 0.5, "similarity_boost": 0.8}}
        # The connection for the next sentence begins with the same message.
        assert [each for each in rest if each != first] == [
            {"text": "We are open. ", "flush": True},
            {"text": ""},
        ]
        url = urlsplit(running.paths[0])
        query = {name: value[0] for name, value in parse_qs(url.query).items()}
        assert url.path == "/v1/text-to-speech/a%20voice/stream-input"
        assert query == {
            "model_id": "eleven_flash_v2_5",
            "output_format": "pcm_16000",
            "sync_alignment": "true",
            "language_code": "de",
        }
        assert running.headers[0]["xi-api-key"] == "secret-key"


async def test_a_sentence_out_of_the_cache_has_its_times() -> None:
    async with serving("elevenlabs", "") as (running, served):
        voice = ServiceVoice(served, Behind(), CircuitBreaker("tts", "elevenlabs"), SentenceCache())
        first, second = [joined([each async for each in voice.timed(TEXT, "de")]) for _ in range(2)]
        assert len(running.paths) == 2  # the second one for the next sentence
    assert first.middles_ms == second.middles_ms and len(first.middles_ms) == 3
    assert np.array_equal(first.pcm, second.pcm)


async def test_a_connection_waits_for_the_next_sentence() -> None:
    async with serving("elevenlabs", "") as (running, voice):
        voice.ahead("en")
        await until(lambda: len(running.paths) == 1 and len(running.came) == 1)
        for count in (2, 3):
            assert [each async for each in voice.speak(TEXT, "en")]
            await until(lambda count=count: len(running.paths) == count)  # type: ignore[misc]


async def test_openai_speaks_a_sentence_as_it_comes() -> None:
    async with serving("openai_tts", "") as (running, voice):
        got = [each async for each in voice.speak(TEXT, "en")]
        assert sum(len(each.pcm) for each in got) == 24_005 and len(got) > 3
        assert running.paths == ["/v1/audio/speech"]
        assert running.headers[0]["authorization"] == "Bearer secret-key"
        assert running.came == [
            {"model": "gpt-4o-mini-tts", "voice": "a voice", "input": TEXT, "response_format": "pcm"}
        ]


@pytest.mark.parametrize("kind", ["elevenlabs", "openai_tts"])
async def test_what_nobody_wants_to_hear_any_more_is_not_synthesised(kind: str) -> None:
    name = "_goes_on" if kind == "elevenlabs" else ""
    async with serving(kind, name) as (running, voice):
        async with aclosing(voice.speak(TEXT, "en")) as stretches:
            assert len((await anext(stretches)).pcm)
        await until(lambda: running.ended == 1)


class Behind:
    """A voice of ours at another rate: a loud second."""

    sample_rate = 22_050

    async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        yield np.full(22_050, 5000, np.int16)


def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "SILENCE_S", 0.4)
    monkeypatch.setattr(openai, "SILENCE_S", 0.4)


FAULTS = [
    ("elevenlabs", "_slow_first_byte", "sent nothing", False),
    ("elevenlabs", "_closes_in_mid_word", "in mid-sentence", True),
    ("elevenlabs", "_drops_the_connection", "in mid-sentence", True),
    ("elevenlabs", "_429", "answered 429", False),
    ("elevenlabs", "_half_a_json", "no speech", False),
    ("elevenlabs", "_refuses", "quota_exceeded", False),
    ("elevenlabs", "_no_final", "sent nothing", True),
    ("openai_tts", "_slow_first_byte", "sent nothing", False),
    ("openai_tts", "_stops", "sent nothing", True),
    ("openai_tts", "_drops_the_connection", "broke off", True),
    ("openai_tts", "_429", "answered 429", False),
    ("openai_tts", "_500", "answered 500", False),
    ("openai_tts", "_nothing", "no sound", False),
]


@pytest.mark.parametrize(("kind", "fault", "sentence", "begun"), FAULTS)
async def test_where_a_service_fails_the_voice_behind_it_speaks_the_whole_sentence(
    monkeypatch: pytest.MonkeyPatch, kind: str, fault: str, sentence: str, begun: bool
) -> None:
    hurried(monkeypatch)
    breaker = CircuitBreaker("tts", kind)
    async with serving(kind, fault) as (running, served):
        voice, heard = ServiceVoice(served, Behind(), breaker, SentenceCache()), HeardText()
        assert isinstance(voice, TimedSpeech)
        sound = np.concatenate([each async for each in spoken(voice, whole(TEXT), "en", heard)])
        asked = len(running.paths)
        seconds = len(sound) / voice.sample_rate
        assert np.abs(sound[-voice.sample_rate // 2 :]).min() > 4000 and seconds == pytest.approx(
            1.65 if begun else 1.0, abs=0.6
        )
        assert breaker.state.state == "rests" and breaker.state.faults == 1
        assert sentence in breaker.state.reason and "secret-key" not in breaker.state.reason
        words = heard.heard(1000 * seconds)
        assert words.endswith(TEXT) and (words != TEXT) == begun
        # While it rests it is not asked.
        assert [each async for each in voice.stream("Another sentence.", "en")]
        assert len(running.paths) == asked


async def test_a_service_that_has_rested_is_asked_again() -> None:
    now = [0.0]
    breaker = CircuitBreaker("tts", "openai", lambda: now[0])
    async with serving("openai_tts", "_500", "") as (running, served):
        voice = ServiceVoice(served, Behind(), breaker, SentenceCache())
        for at in (0.0, 1.0, 10.0):
            now[0] = at
            assert [each async for each in voice.stream(TEXT, "en")]
        assert len(running.paths) == 2 and breaker.state.state == "works" and not breaker.state.reason
        assert [each async for each in voice.stream(TEXT, "en")]  # out of the cache
        assert len(running.paths) == 2


class Spoken:
    """A service that sends this sound in such pieces."""

    sample_rate = 16_000

    def __init__(self, sound: PCM, piece: int) -> None:
        self.sound, self.piece = sound, piece

    async def speak(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        for at in range(0, len(self.sound), self.piece):
            yield Stretch(self.sound[at : at + self.piece])

    def ahead(self, language: str) -> None:
        pass

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("piece", [160, 777, 5000, 1 << 20])
@pytest.mark.parametrize("gain", [0.2, 1.0, 2.0])
async def test_a_sentence_in_pieces_is_trimmed_and_levelled_as_a_whole_one_is(
    piece: int, gain: float
) -> None:
    raw = (speech("This is what a voice sounds like over the phone.") * gain).astype(np.int16)
    raw = np.concatenate((np.zeros(6000, np.int16), raw, np.zeros(9000, np.int16)))
    level = VoiceLevel()
    for _ in range(2):  # the first one teaches its level
        finish = StreamFinish(16_000, level)
        pieces = [finish.push(raw[at : at + piece]) for at in range(0, len(raw), piece)]
        sound = np.concatenate([*pieces, finish.flush()])
    wanted = finished(raw, 16_000)
    assert 10 * np.log10(active_level(powers(sound, 16_000))) == pytest.approx(LEVEL_DBFS, abs=1.0)
    assert len(sound) == pytest.approx(len(wanted), abs=16 * 30)
    assert finish.head_ms == pytest.approx(375 - 20, abs=60)


async def test_what_is_silence_stays_out() -> None:
    voice = ServiceVoice(
        Spoken(np.zeros(16_000, np.int16), 1000), Behind(), CircuitBreaker("tts", "x"), SentenceCache()
    )
    assert sum([len(each) async for each in voice.stream("Hush.", "en")]) == 0


def test_words_end_at_spaces_across_messages() -> None:
    times = WordTimes()
    assert times.feed(0, "We a", [0, 10, 20, 30], [10] * 4) == [10.0]
    assert times.feed(100, "re", [0, 10], [10, 10]) == []
    assert times.flush() == [75.0] and times.flush() == []


async def test_closing_waits_for_nobody_who_is_not_there() -> None:
    voice = ElevenLabsVoice(TtsSettings("ws://127.0.0.1:9/v1", Secret("k"), "", "v"))
    voice.ahead("en")
    with pytest.raises(SpeechError, match="cannot be reached"):
        assert [each async for each in voice.speak(TEXT, "en")]
    async with asyncio.timeout(5):
        await voice.close()


async def test_where_a_voice_takes_long_something_it_remembers_is_said_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spoken_module, "MEANWHILE_S", 0.05)
    go, filler = asyncio.Event(), np.full(1600, 100, np.int16)

    class Slow(Spoken):
        async def speak(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
            await go.wait()
            async for each in super().speak(text, language):
                yield each

    cache = SentenceCache()
    cache.put("One moment.", "en", 16_000, Stretch(filler))
    loud = np.full(16_000, 4000, np.int16)
    voice = ServiceVoice(Slow(loud, 4000), Behind(), CircuitBreaker("tts", "x"), cache)
    heard = HeardText()
    sound = spoken(voice, whole("We are open. Come in."), "en", heard, "One moment.")
    assert (await anext(sound) == filler).all()
    go.set()
    rest = [each async for each in sound]
    assert len(np.concatenate(rest)) > 30_000 and heard.text == "We are open. Come in."
    assert heard.heard(150) == "" and heard.heard(heard.milliseconds) == heard.text
    # One that is dropped while it waits leaves nothing behind.
    go.clear()
    dropped = spoken(voice, whole("Never said by anybody."), "en", HeardText(), "One moment.")
    assert (await anext(dropped) == filler).all()
    waiting = asyncio.ensure_future(anext(dropped))
    await asyncio.sleep(0.01)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
