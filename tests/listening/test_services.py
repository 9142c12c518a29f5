"""Recognition by services of others: scripts of them on the loopback, faults included."""

from __future__ import annotations

import asyncio
import contextlib
import io
import wave
from collections.abc import AsyncIterator, Callable, Sequence
from urllib.parse import parse_qs, urlsplit

import numpy as np
import pytest

from orchestrator.listening import deepgram, recognition, stt
from orchestrator.listening.context import Understood
from orchestrator.listening.deepgram import Deepgram, DeepgramStream
from orchestrator.listening.openai import OpenAISpeechToText
from orchestrator.listening.recognition import CallRecognition, Recognition
from orchestrator.listening.stt import Recognised, Sound, SttError, SttSettings, TimedWord, Transcriber
from tests.support.scripted import Service, http_service, script, websocket_service
from tests.support.waiting import until
from visavis.service.breaker import ServiceState

SECOND = np.full(16_000, 0.1, np.float32)
SAID = "When are you open?"


@contextlib.asynccontextmanager
async def listening(
    kind: str, *names: str, language: str = "en", rate: int = 8000
) -> AsyncIterator[tuple[Service, Transcriber]]:
    serving = websocket_service if kind == "deepgram" else http_service
    async with serving(*(script(f"{kind}{name}") for name in names)) as service:
        url = service.url if kind == "deepgram" else service.http
        settings = SttSettings(kind, url, "secret-key", "")
        provider = Deepgram(settings) if kind == "deepgram" else OpenAISpeechToText(settings)
        transcriber = provider.transcriber(language, rate)
        try:
            yield service, transcriber
        finally:
            await transcriber.close()
            await provider.close()


@pytest.mark.parametrize(("rate", "encoding", "size"), [(8000, "mulaw", 8000), (48_000, "linear16", 32_000)])
async def test_deepgram_hears_an_utterance_as_it_is_said_and_one_after_it(
    rate: int, encoding: str, size: int
) -> None:
    async with listening("deepgram", "", language="de-AT", rate=rate) as (service, transcriber):
        for at in range(0, 16_000, 512):
            transcriber.feed(SECOND[at : at + 512])
        found = await transcriber.words(SECOND)
        assert found.text == SAID
        assert found.words[0] == TimedWord("When", 100, 300) and found.words[-1].text == "open?"
        transcriber.take()
        transcriber.feed(SECOND)
        found = await transcriber.words(SECOND)
        assert (found.text, found.words[0]) == ("On Saturdays too?", TimedWord("On", 100, 200))
        await transcriber.close()
        query = parse_qs(urlsplit(service.paths[0]).query)
        assert service.paths[0].startswith("/v1/listen?") and query["encoding"] == [encoding]
        assert query["language"] == ["de"] and query["model"] == ["nova-3"]
        assert service.headers[0]["authorization"] == "Token secret-key"
        sounds = [each for each in service.came if isinstance(each, bytes)]
        assert [abs(len(each) - size) < size * 0.05 for each in sounds] == [True, True]
        texts = [each["type"] for each in service.came if isinstance(each, dict)]
        assert texts == ["Finalize", "Finalize", "CloseStream"]


async def test_deepgram_is_kept_alive_between_utterances(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deepgram, "KEEP_ALIVE_S", 0.05)
    async with listening("deepgram", "") as (service, _):
        await until(lambda: service.came.count({"type": "KeepAlive"}) >= 2)


FAULTS = [
    ("deepgram", "_slow_first_byte", "did not answer"),
    ("deepgram", "_closes_in_mid_word", "closed the connection"),
    ("deepgram", "_drops_the_connection", "closed the connection"),
    ("deepgram", "_429", "answered 429"),
    ("deepgram", "_half_a_json", "no result"),
    ("openai_stt", "_slow_first_byte", "did not answer"),
    ("openai_stt", "_429", "answered 429"),
    ("openai_stt", "_half_a_json", "no result"),
    ("openai_stt", "_no_final", "no result"),
    ("openai_stt", "_drops_the_connection", "broke off"),
]


def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (deepgram, stt, __import__("orchestrator.listening.openai", fromlist=["x"])):
        monkeypatch.setattr(module, "ANSWER_S", 0.4)


@pytest.mark.parametrize(("kind", "fault", "sentence"), FAULTS)
async def test_faults_are_one_sentence_each_and_the_next_utterance_is_heard(
    monkeypatch: pytest.MonkeyPatch, kind: str, fault: str, sentence: str
) -> None:
    hurried(monkeypatch)
    async with listening(kind, fault, "") as (_, transcriber):
        transcriber.feed(SECOND)
        await asyncio.sleep(0.1)
        with pytest.raises(SttError, match=sentence) as raised:
            await transcriber.words(SECOND)
        assert "secret-key" not in str(raised.value)
        transcriber.take()
        transcriber.feed(SECOND)
        if fault != "_slow_first_byte" or kind != "deepgram":  # whose connection still stands
            assert (await transcriber.words(SECOND)).text == SAID


async def test_without_a_final_result_what_was_heard_so_far_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    hurried(monkeypatch)
    async with listening("deepgram", "_no_final") as (_, transcriber):
        transcriber.feed(SECOND)
        await asyncio.sleep(0.1)
        assert (await transcriber.words(SECOND)).text == SAID


async def test_a_finalize_that_finds_nothing_left_needs_no_answer() -> None:
    async with listening("deepgram", "_nothing_left") as (_, transcriber):
        transcriber.feed(SECOND)
        await asyncio.sleep(0.1)
        assert (await transcriber.words(SECOND)).text == SAID


async def test_a_final_that_comes_after_its_utterance_was_taken_is_not_part_of_the_next() -> None:
    async with listening("deepgram", "_a_final_after_cancel") as (_, transcriber):
        transcriber.feed(SECOND)
        assert (await transcriber.words(SECOND)).text == SAID
        transcriber.take()
        transcriber.feed(SECOND)
        await asyncio.sleep(0.1)
        assert (await transcriber.words(SECOND)).text == "On Saturdays too?"


@pytest.mark.parametrize("text", ["", "null", "[]", '{"type": "Results"}', '{"type": "Error"}', b"\xff", "{"])
def test_what_no_result_is_fails_the_connection_and_nothing_else(text: str | bytes) -> None:
    stream = DeepgramStream()
    stream.receive('{"type": "SomethingNew", "channel": 3}')
    assert not stream.failed
    stream.receive(text)
    assert stream.failed


async def test_an_utterance_is_posted_as_a_wav() -> None:
    async with listening("openai_stt", "", language="de-AT") as (service, transcriber):
        assert (await transcriber.words(SECOND)).text == SAID
        assert service.paths == ["/v1/audio/transcriptions"]
        assert service.headers[0]["authorization"] == "Bearer secret-key"
        body = service.came[0]
        assert (
            b'name="model"\r\n\r\ngpt-4o-mini-transcribe' in body and b'name="language"\r\n\r\nde\r' in body
        )
        with wave.open(io.BytesIO(body[body.index(b"RIFF") :])) as file:
            assert (file.getframerate(), file.getnframes(), file.getsampwidth()) == (16_000, 16_000, 2)


class Broken:
    """A service that fails, and then does not."""

    def __init__(self, *answers: Recognised | SttError) -> None:
        self.answers = list(answers)
        self.asked = 0

    def transcriber(self, language: str, rate: int) -> Broken:
        return self

    def feed(self, sound: Sound) -> None:
        pass

    async def words(self, sound: Sound) -> Recognised:
        self.asked += 1
        answer = self.answers.pop(0)
        if isinstance(answer, SttError):
            raise answer
        return answer

    def take(self) -> None:
        pass

    async def close(self) -> None:
        pass


class Own:
    """The recogniser that is installed."""

    def __call__(self, sound: Sound) -> str:
        return ""

    def understand(self, sound: Sound, before: Sequence[Understood]) -> Understood:
        return Understood(sound, (7,), " ".join([*(each.text for each in before), "from our own"]))


@contextlib.asynccontextmanager
async def recognising(
    monkeypatch: pytest.MonkeyPatch, service: Broken, states: list[ServiceState]
) -> AsyncIterator[tuple[Callable[[str], CallRecognition], list[float]]]:
    now = [0.0]
    monkeypatch.setattr(recognition, "Recogniser", Own)
    monkeypatch.setitem(recognition._SERVICES, "broken", lambda settings: service)
    all_ = Recognition(states.append)
    assert await all_.load(SttSettings("broken")) == ""
    all_.breaker._clock = lambda: now[0]
    try:
        yield lambda language: all_.of_call(language, 8000), now
    finally:
        await all_.close()


async def test_where_the_service_fails_the_installed_recogniser_answers_and_it_rests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service, states = (
        Broken(SttError("it answered 500"), Recognised("from the service")),
        list[ServiceState](),
    )
    async with recognising(monkeypatch, service, states) as (of, now):
        call = of("en-GB")
        for _ in range(2):
            found = await call.words(SECOND, lambda: True)
            assert found == Recognised("from our own") and service.asked == 1
        now[0] = 10.0
        assert await call.words(SECOND, lambda: True) == Recognised("from the service")
    assert [(each.state, each.faults) for each in states] == [("rests", 1), ("works", 1)]


async def test_an_utterance_is_recognised_with_those_it_goes_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    async with recognising(monkeypatch, Broken(SttError("it answered 500")), []) as (of, _):
        call = of("en")

        async def said(goes_on: bool, wanted: bool = True) -> str:
            found = await call.words(SECOND, lambda: wanted, goes_on)
            assert found is not None
            return found.text

        own = "from our own"
        assert await said(False) == own
        assert await said(True) == own, "it was not taken yet"
        call.take()
        assert await said(True) == f"{own} {own}"
        assert await said(True) == f"{own} {own}", "the same one, which has grown"
        call.take()
        assert await said(True) == f"{own} {own} {own} {own}"
        assert await said(False) == own
        call.take()
        assert await said(True) == f"{own} {own}"
        assert await said(True, wanted=False) == ""
        call.take()
        assert await said(True) == own, "of the one before, nothing is known"


async def test_what_nobody_can_recognise_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    service = Broken(SttError("it answered 500"))
    async with recognising(monkeypatch, service, []) as (of, _):
        assert await of("de").words(SECOND, lambda: True) is None
