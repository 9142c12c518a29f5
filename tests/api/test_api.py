"""The control API over calls with a media sink that remembers what it was given."""

from __future__ import annotations

import asyncio
import io
import wave
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx
import numpy as np
import pytest
from fastapi.routing import iter_route_contexts
from prometheus_client import CollectorRegistry

from orchestrator.api import calls
from orchestrator.api.app import create_app
from orchestrator.api.dependencies import Services
from orchestrator.archive.archive import Archive
from orchestrator.archive.database import Database, sqlite_url
from orchestrator.archive.sealed_text import SealedTexts
from orchestrator.assistants.script import DEFAULT, read_script
from orchestrator.assistants.scripted import ScriptedAssistant
from orchestrator.calls.call import Call
from orchestrator.calls.events import CallEvent, EventBus
from orchestrator.calls.gateway import CallEnd, DialOrder, DialRefused, RequestRefused
from orchestrator.calls.portraits import AvatarCatalog, Portrait
from orchestrator.calls.records import RecordBook
from orchestrator.calls.registry import CallRegistry
from orchestrator.config import load_settings
from orchestrator.conversation.conversations import Conversations
from orchestrator.metrics import OrchestratorCollector, make_registry
from orchestrator.speech.base import PCM, SpeechError, VoiceByLanguage
from tests.archive.support import record, said
from tests.support.calls import Peer, Sink, answered_call, report
from tests.support.credentials import API, api_guard
from tests.support.house import wav_header
from tests.support.waiting import until
from visavis.service.breaker import ServiceState
from visavis.service.child import ProcessState
from visavis.service.supervisor import Supervisor

JSON = {"content-type": "application/json"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(64)


class Voice:
    sample_rate = 24_000

    async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        for word in text.split():
            if word == "unspeakable":
                raise SpeechError("this voice cannot say that")
            if word == "broken":
                raise OSError("no such library")
            yield np.full(2400, 500, np.int16)


@dataclass
class House(Peer):
    tmp: Path
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    bus: EventBus = field(default_factory=EventBus)
    sink: Sink = field(default_factory=Sink)
    hung_up: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    dead: str = ""
    changed: list[str] = field(default_factory=list)
    traces: dict[str, str] = field(default_factory=lambda: {"c1": ""})
    to_trace: int = 0
    pressed: list[tuple[str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        taps = cast(Any, SimpleNamespace(tap=lambda call_id, take: None))
        self.archive = Archive(Database(sqlite_url(self.tmp / "records.db")))
        self.talks = Conversations(
            taps, {"scripted": ScriptedAssistant(read_script(DEFAULT))}, on_entry=self.archive.keep_entry
        )
        default = self.tmp / "default.png"
        default.write_bytes(PNG)
        self.catalog = AvatarCatalog(self.tmp / "avatars", default)

        self.one = answered_call(VoiceByLanguage({"en": Voice}), self.bus, self, self.sink)
        self.app = create_app(
            Services(self, self.catalog, self.bus, self.registry, "en"), "0", api_guard(self.tmp)
        )
        self.client = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app), base_url="http://test", headers=API
        )

    def hang_up(self, reason: str) -> None:
        self.hung_up.append(reason)
        self.one.on_end(CallEnd("hangup", "us", text=reason))

    async def press(self, digits: str, milliseconds: int) -> None:
        if digits == "D":
            raise RequestRefused("the peer takes no keys: it answered 415")
        self.pressed.append((digits, milliseconds))

    async def transfer(self, to: str) -> int:
        return 486 if "busy" in to else 200

    @property
    def calls(self) -> Sequence[Call]:
        return [self.one]

    def call(self, call_id: str) -> Call | None:
        return self.one if call_id == "c1" else None

    @property
    def conversations(self) -> Any:
        return self.talks

    @property
    def desk(self) -> Any:
        return SimpleNamespace(not_ready=lambda: self.absent, not_alive=lambda: self.dead)

    async def dial(self, order: DialOrder) -> str:
        if order.avatar != "default":
            raise DialRefused(f"there is no avatar '{order.avatar}'")
        return f"to {order.to} {order.language} {order.video} {order.account}"

    def trace(self, call_id: str) -> str | None:
        return self.traces.get(call_id)

    async def erase(self, call_id: str) -> bool:
        return bool(await self.archive.erase([call_id]))

    def start_trace(self, call_id: str) -> bool:
        return self.traces.setdefault(call_id, "INVITE sip:x") is not None and call_id == "c1"

    def trace_calls(self, calls: int) -> None:
        self.to_trace = calls

    async def delete_portrait(self, name: str) -> Portrait | None:
        return self.catalog.delete(name)

    async def put_portrait(self, name: str, data: bytes) -> Portrait:
        portrait = self.catalog.put(name, data)
        self.changed.append(portrait.name)
        return portrait


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    made, supervisor = House(tmp_path), Supervisor()
    made.archive.start(supervisor)
    yield made
    await supervisor.close()
    await made.archive.close()


async def test_health(house: House) -> None:
    assert (await house.client.get("/healthz")).json() == {"status": "ok"}
    assert (await house.client.get("/readyz")).status_code == 200
    house.absent.append("no media worker has room for a call")
    answer = await house.client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "missing": house.absent}
    assert (await house.client.get("/healthz")).status_code == 200
    house.dead = "no media worker has been heard for 100 s: see the log"
    answer = await house.client.get("/healthz")
    assert (answer.status_code, answer.json()) == (503, {"status": house.dead})


async def test_the_root_says_where_to_go(house: House) -> None:
    answer = await house.client.get("/")
    assert answer.status_code == 200
    named = [line.split()[0] for line in answer.text.splitlines() if line.startswith("/")]
    assert set(named) <= {route.path for route in iter_route_contexts(house.app.routes)}


async def test_metrics_sum_the_lips_of_ended_calls(tmp_path: Path) -> None:
    registry: Any = SimpleNamespace(active=0, refused=0, calls=[], call=lambda call_id: house.one)
    collector = OrchestratorCollector(registry, cast(Any, SimpleNamespace(workers=[])))
    house = House(tmp_path, registry=make_registry(collector))
    house.one.stats = {"frames_shown": 90, "frames_late": 10, "frames_dropped": 4, "freeze_ms": 750}
    for _ in range(2):
        collector.count(CallEvent("ended", "c1", {"cause": "bye"}))
    lines = (await house.client.get("/metrics")).text.splitlines()
    assert {line for line in lines if line.startswith("visavis_call_")} == {
        "visavis_call_frames_shown_total 180.0",
        "visavis_call_frames_late_total 20.0",
        "visavis_call_frames_dropped_total 8.0",
        "visavis_call_freeze_seconds_total 1.5",
    }


async def test_metrics_of_recordings(tmp_path: Path) -> None:
    registry: Any = SimpleNamespace(active=0, refused=0, calls=[], call=lambda call_id: None)
    collector = OrchestratorCollector(registry, cast(Any, SimpleNamespace(workers=[])))
    figures = SimpleNamespace(
        active=2, failures=1, seconds=90.5, octets=4000, kept=SimpleNamespace(waiting=3)
    )
    collector.recordings = cast(Any, figures)
    lines = (
        await House(tmp_path, registry=make_registry(collector)).client.get("/metrics")
    ).text.splitlines()
    assert {
        "visavis_recordings 2.0",
        "visavis_recordings_failed_total 1.0",
        "visavis_recorded_seconds_total 90.5",
        "visavis_recorded_bytes_total 4000.0",
        "visavis_recordings_waiting 3.0",
    } <= set(lines)


async def test_metrics_of_conversations(tmp_path: Path) -> None:
    registry: Any = SimpleNamespace(active=0, refused=0, calls=[], call=lambda call_id: None)
    collector = OrchestratorCollector(registry, cast(Any, SimpleNamespace(workers=[])))
    collector.conversations = lambda: (2, True)
    collector.processes = lambda: [
        ProcessState("listening process", "ready", 5, 2, "it was killed by SIGKILL"),
        ProcessState("voices process", "off", None, 0, ""),
    ]
    collector.services = lambda: [ServiceState("stt", "deepgram", "rests", 3, "it answered 429")]
    house = House(tmp_path, registry=make_registry(collector))
    for number in range(1, 101):
        collector.count(CallEvent("latency", "c1", {"total_ms": number * 10, "voice_ms": 20}))
    collector.count(CallEvent("speech_started", "c1", {}))
    collector.count(CallEvent("transcript", "c1", {"speaker": "caller", "text": "x", "final": False}))
    collector.count(CallEvent("transcript", "c1", {"speaker": "caller", "text": "x", "final": True}))
    collector.count(CallEvent("reply", "c1", {"text": "x", "whole": False}))
    lines = (await house.client.get("/metrics")).text.splitlines()
    assert {
        "visavis_conversations 2.0",
        "visavis_listening 1.0",
        'visavis_answer_seconds{quantile="0.5"} 0.5',
        'visavis_answer_seconds{quantile="0.95"} 0.95',
        'visavis_replies_total{outcome="cut"} 1.0',
        'visavis_replies_total{outcome="whole"} 0.0',
        'visavis_answer_step_seconds{quantile="0.95",step="voice"} 0.02',
        "visavis_speech_started_total 1.0",
        "visavis_caller_turns_total 1.0",
        'visavis_process_ready{process="listening process"} 1.0',
        'visavis_process_restarts_total{process="listening process"} 2.0',
        'visavis_service_faults_total{part="stt",service="deepgram"} 3.0',
        'visavis_service_rests{part="stt",service="deepgram"} 1.0',
    } <= set(lines)
    assert not any("voices process" in line for line in lines)


async def test_say_streams_both_rates_and_reports(house: House) -> None:
    async with house.bus.listen() as events:
        answer = await house.client.post("/v1/calls/c1/say", json={"text": "one two three"})
        assert answer.status_code == 202
        assert answer.json()["state"] == "queued"
        while not house.sink.ended:
            await asyncio.sleep(0)
        assert sum(len(pair[0]) for pair in house.sink.fed[1]) == pytest.approx(4800, abs=2)
        assert sum(len(pair[1]) for pair in house.sink.fed[1]) == pytest.approx(2400, abs=2)
        report(house.one, "started", 1, 0.0, 120.0)
        report(house.one, "finished", 1, 300.0, 0.0)
        kinds = [events.get_nowait().as_dict() for _ in range(2)]
    assert [kind["event"] for kind in kinds] == ["turn_started", "turn_finished"]
    assert kinds[1]["heard_ms"] == 300.0
    call = (await house.client.get("/v1/calls/c1")).json()
    assert call["turns"] == [
        {"turn_id": 1, "kind": "say", "state": "finished", "heard_ms": 300.0, "reason": ""}
    ]


async def test_a_face_is_told_to_think_and_to_go_by_the_voice_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[str]()
    monkeypatch.setattr(house.one, "show_state", told.append)
    for state in ("thinking", None):
        answer = await house.client.put("/v1/calls/c1/state", json={"state": state})
        assert answer.status_code == 204
    assert told == ["thinking", ""]
    refused = await house.client.put("/v1/calls/c1/state", json={"state": "bored"})
    assert refused.status_code == 422


async def test_replace_interrupts_first(house: House) -> None:
    await house.client.post("/v1/calls/c1/say", json={"text": "one"})
    await house.client.post("/v1/calls/c1/say", json={"text": "two", "mode": "replace"})
    assert house.sink.interrupted == 1
    turns = (await house.client.get("/v1/calls/c1")).json()["turns"]
    assert [turn["state"] for turn in turns] == ["interrupted", "queued"]


async def test_play_ends_after_an_hour(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LONGEST_S", 1)

    async def three_seconds() -> AsyncIterator[bytes]:
        yield wav_header()
        for _ in range(150):
            yield bytes(640)

    answer = await house.client.post("/v1/calls/c1/play", content=three_seconds())
    assert (answer.status_code, "more than 1 seconds of sound" in answer.json()["detail"]) == (413, True)


async def test_play_takes_a_wav(house: House) -> None:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(44_100)
        file.writeframes(np.ones(44_100 * 2, "<i2").tobytes())
    data = buffer.getvalue()

    async def slowly() -> AsyncIterator[bytes]:
        for at in range(0, len(data), 997):
            yield data[at : at + 997]

    assert (await house.client.post("/v1/calls/c1/play", content=slowly())).status_code == 202
    while not house.sink.ended:
        await asyncio.sleep(0)
    assert sum(len(pair[0]) for pair in house.sink.fed[1]) == pytest.approx(16_000, abs=2)


async def test_a_sender_goes_on_to_its_end_after_an_interruption(house: House) -> None:
    async def long() -> AsyncIterator[bytes]:
        yield wav_header()
        for n in range(300):
            yield bytes(640)
            if n == 20:
                await house.client.post("/v1/calls/c1/interrupt")
                report(house.one, "interrupted", 1, 0.0, 0.0)

    async with asyncio.timeout(30):
        answer = await house.client.post("/v1/calls/c1/play", content=long())
    assert (answer.json()["kind"], answer.json()["state"]) == ("play", "interrupted")
    assert house.sink.interrupted == 1


@pytest.mark.parametrize(
    ("method", "path", "kwargs", "status", "words"),
    [
        ("POST", "/v1/calls/nobody/say", {"json": {"text": "x"}}, 404, "GET /v1/calls lists them"),
        ("POST", "/v1/calls/c1/say", {"json": {"text": ""}}, 422, "text"),
        (
            "POST",
            "/v1/calls/c1/say",
            {"json": {"text": "x", "language": "tlh"}},
            400,
            "no voice speaks 'tlh': choose one of en",
        ),
        ("POST", "/v1/calls/c1/say", {"json": {"text": "x", "language": "e" * 101}}, 422, "language"),
        ("POST", "/v1/calls/c1/say", {"content": b"{", "headers": JSON}, 422, "JSON"),
        ("POST", "/v1/calls/c1/play", {"content": b"text that is no sound"}, 400, "not a PCM WAV file"),
        ("PUT", "/v1/avatars/anna", {"content": b"just text"}, 400, "not a picture"),
        ("PUT", "/v1/avatars/An%20na", {"content": PNG}, 400, "not an avatar name"),
        ("POST", "/v1/calls", {"json": {"to": "sip:x@y", "avatar": "zoe"}}, 409, "no avatar 'zoe'"),
        ("POST", "/v1/calls/c1/dtmf", {"json": {"digits": "12x"}}, 422, "digits"),
        ("POST", "/v1/calls/c1/dtmf", {"json": {"digits": "1", "milliseconds": 5}}, 422, "milliseconds"),
        ("POST", "/v1/calls/c1/dtmf", {"json": {"digits": "D"}}, 409, "takes no keys"),
        ("GET", "/v1/avatars/nobody", {}, 404, "GET /v1/avatars lists them"),
        ("GET", "/v1/nothing", {}, 404, "nothing at /v1/nothing: /docs lists the routes"),
        (
            "POST",
            "/v1/calls",
            {"content": b'{"to": "sip:a@b"}'},
            422,
            "content-type: application/json, not",
        ),
        ("GET", "/v1/avatars/..%2f..%2fetc", {}, 404, ""),
    ],
)
async def test_errors_are_problem_details(
    house: House, method: str, path: str, kwargs: dict[str, object], status: int, words: str
) -> None:
    answer = await house.client.request(method, path, **kwargs)  # type: ignore[arg-type]
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("unspeakable", "this voice cannot say that"),
        ("broken", "the voice failed: the log of the orchestrator tells how"),
    ],
)
async def test_a_voice_that_fails_ends_its_turn(house: House, text: str, reason: str) -> None:
    async with house.bus.listen() as events, asyncio.timeout(10):
        answer = await house.client.post("/v1/calls/c1/say", json={"text": text, "wait": True})
        assert (answer.json()["state"], answer.json()["reason"]) == ("failed", reason)
        event = events.get_nowait().as_dict()
        assert (event["event"], event["state"], event["reason"]) == ("turn_interrupted", "failed", reason)
        assert house.sink.ended == [1]
        report(house.one, "started", 1, 0.0, 0.0)  # its silence, in the media worker
        report(house.one, "finished", 1, 0.0, 0.0)
        assert (await house.client.get("/v1/calls/c1")).json()["turns"][0]["state"] == "failed"
        with pytest.raises(asyncio.QueueEmpty):
            events.get_nowait()


async def test_a_voice_that_fails_in_mid_sentence_has_failed(house: House) -> None:
    async with asyncio.timeout(10):
        await house.client.post("/v1/calls/c1/say", json={"text": "one two unspeakable"})
        report(house.one, "started", 1, 0.0, 0.0)
        while not house.sink.ended:
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        report(house.one, "finished", 1, 200.0, 0.0)
    turn = (await house.client.get("/v1/calls/c1")).json()["turns"][0]
    assert (turn["state"], turn["heard_ms"], turn["reason"]) == (
        "failed",
        200.0,
        "this voice cannot say that",
    )


async def test_avatars(house: House) -> None:
    assert (await house.client.put("/v1/avatars/anna", content=PNG)).json()["name"] == "anna"
    assert house.changed == ["anna"]
    names = [avatar["name"] for avatar in (await house.client.get("/v1/avatars")).json()]
    assert names == ["default", "anna"]
    assert (await house.client.get("/v1/avatars/anna")).content == PNG
    assert house.catalog.for_user("Anna").name == "anna"
    assert house.catalog.for_user("stranger").name == "default"


async def test_an_avatar_is_deleted_and_the_default_one_is_not(house: House) -> None:
    await house.client.put("/v1/avatars/anna", content=PNG)
    assert (await house.client.delete("/v1/avatars/Anna")).status_code == 204
    assert (await house.client.get("/v1/avatars/anna")).status_code == 404
    assert house.catalog.for_user("anna").name == "default"
    answer = await house.client.delete("/v1/avatars/anna")
    assert (answer.status_code, "there is no avatar 'anna'" in answer.json()["detail"]) == (404, True)
    await house.client.put("/v1/avatars/default", content=PNG)
    answer = await house.client.delete("/v1/avatars/default")
    assert answer.status_code == 400 and "cannot be deleted" in answer.json()["detail"]
    assert (await house.client.get("/v1/avatars/default")).content == PNG


async def test_a_call_whose_portrait_is_erased_while_it_rings_shows_the_default_one(house: House) -> None:
    pool: Any = SimpleNamespace(send=print)
    registry = CallRegistry(load_settings([]), pool, house.catalog, VoiceByLanguage({"en": Voice}), house.bus)
    anna = house.catalog.put("anna", PNG)
    ringing, answered = (
        Call(name, Peer(), anna, Sink().send, VoiceByLanguage({"en": Voice}), house.bus) for name in "ab"
    )
    answered.answered_at = 1.0
    registry._under_way |= {"a": ringing, "b": answered}
    house.catalog.delete("anna")
    registry.erased(anna)
    assert ringing.portrait == house.catalog.get("default") and answered.portrait == anna


async def test_a_number_is_uploaded_as_people_write_it(house: House) -> None:
    answer = await house.client.put("/v1/avatars/+4930123", content=PNG)
    assert (answer.status_code, answer.json()["name"]) == (200, "4930123")
    for spelt in ("4930123", "+4930123", "%2B49-30-123", "+49.30.123"):
        assert (await house.client.get(f"/v1/avatars/{spelt}")).content == PNG
    assert (await house.client.put("/v1/avatars/anna.smith", content=PNG)).json()["name"] == "anna.smith"
    assert (await house.client.delete("/v1/avatars/+49(30)123")).status_code == 204
    assert [one["name"] for one in (await house.client.get("/v1/avatars")).json()] == [
        "default",
        "anna.smith",
    ]


async def test_hang_up_ends_everything(house: House) -> None:
    await house.client.post("/v1/calls/c1/say", json={"text": "one"})
    assert (await house.client.delete("/v1/calls/c1")).status_code == 204
    assert house.hung_up == ["api"]
    answer = await house.client.post("/v1/calls/c1/say", json={"text": "two"})
    assert (answer.status_code, "has ended" in answer.json()["detail"]) == (410, True)


async def test_calls_are_dialled_over_the_account_asked_for(house: House) -> None:
    answer = await house.client.post("/v1/calls", json={"to": "sip:x@y", "account": "sip:a@trunk"})
    assert (answer.status_code, answer.json()) == (202, {"call_id": "to sip:x@y en True sip:a@trunk"})


async def test_no_call_is_dialled_to_speak_a_language_that_no_voice_speaks(house: House) -> None:
    pool: Any = SimpleNamespace(send=print)
    voices = VoiceByLanguage({"en": Voice})
    registry = CallRegistry(load_settings([]), pool, house.catalog, voices, house.bus)
    order = DialOrder(to="sip:x@y", avatar="default", text="Hello.", language="tlh")
    with pytest.raises(SpeechError, match="no voice speaks 'tlh'"):
        await registry.dial(cast(Any, None), order)


async def test_records_are_paged_by_time_and_erased(house: House) -> None:
    for number in range(5):
        house.archive.keep_record(record(f"r{number}", 100.0 + number))
    house.archive.keep_entry("r1", said(1))
    seen, path = list[str](), "/v1/records?limit=2&since=101"
    while path:
        answer = await house.client.get(path)
        seen += [one["call_id"] for one in answer.json()]
        path = answer.links.get("next", {}).get("url", "")
    assert seen == ["r4", "r3", "r2", "r1"]
    until = (await house.client.get("/v1/records?until=101")).json()
    assert [one["call_id"] for one in until] == ["r0"]
    one = (await house.client.get("/v1/records/r1")).json()
    assert (one["ended_by"], one["seconds"], one["media"]["audio"]["peer_lost"]) == ("peer", 3.0, 1)
    assert (await house.client.delete("/v1/records/r1")).status_code == 204
    for gone in ("/v1/records/r1", "/v1/calls/r1/transcript"):
        assert (await house.client.get(gone)).status_code == 404
    assert (await house.client.delete("/v1/records/r1")).status_code == 404
    answer = await house.client.get("/v1/records?cursor=x")
    assert (answer.status_code, "the cursor is not one of ours" in answer.json()["detail"]) == (400, True)


async def test_nothing_of_a_call_under_way_is_erased(house: House) -> None:
    answer = await house.client.delete("/v1/records/c1")
    assert (answer.status_code, answer.json()["detail"]) == (
        409,
        "call 'c1' goes on: DELETE /v1/calls/c1 hangs up",
    )


async def test_a_transcript_without_its_key_is_one_sentence_and_can_be_erased(house: House) -> None:
    await until(lambda: house.archive.status.state == "ready")
    house.archive._database._texts = SealedTexts(b"k" * 32)
    house.archive.keep_record(record("r1"))
    house.archive.keep_entry("r1", said(1))
    await until(lambda: house.archive.status.waiting == 0)
    house.archive._database._texts = SealedTexts(None)
    for form in ("", "?format=vtt"):
        answer = await house.client.get(f"/v1/calls/r1/transcript{form}")
        assert (answer.status_code, answer.json()["detail"]) == (
            409,
            "the transcript of call 'r1' is encrypted, and VISAVIS_RECORDING_KEY_FILE names no key",
        )
    assert (await house.client.get("/v1/records/r1")).status_code == 200
    assert (await house.client.delete("/v1/records/r1")).status_code == 204
    assert (await house.client.get("/v1/calls/r1/transcript")).status_code == 404


async def test_a_transcript_as_subtitles(house: House) -> None:
    house.archive.keep_record(record("r1"))
    house.archive.keep_entry("r1", said(1, "One & <two>?", 3.25))
    answer = await house.client.get("/v1/calls/r1/transcript?format=vtt")
    assert answer.headers["content-type"] == "text/vtt; charset=utf-8"
    assert answer.text == ("WEBVTT\n\n1\n00:00:01.250 --> 00:00:02.250\n<v Caller>One &amp; &lt;two&gt;?\n")
    later = await house.client.get("/v1/calls/r1/transcript?format=vtt&zero=3.75")
    assert "00:00:00.000 --> 00:00:00.500\n" in later.text
    assert "Caller" not in (await house.client.get("/v1/calls/r1/transcript?format=vtt&zero=9")).text
    entries = (await house.client.get("/v1/calls/r1/transcript")).json()["entries"]
    assert [entry["text"] for entry in entries] == ["One & <two>?"]
    assert (await house.client.get("/v1/calls/r1/transcript?format=srt")).status_code == 422


def test_refused_calls_are_recorded_so_often(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    kept = list[tuple[str, bool]]()
    book = RecordBook(lambda record, refused: kept.append((record.call_id, refused)), lambda: now)
    with caplog.at_level("INFO", logger="orchestrator"):
        book.add(record("answered"), None)
        for number in range(50):
            book.refuse(record(f"refused{number}", cause="no_room"))
        now = 1.5
        book.refuse(record("later", cause="draining"))
    refused = [f"refused{number}" for number in range(20)] + ["later"]
    assert kept == [("answered", False), *((call_id, True) for call_id in refused)]
    lines = [(one.message, vars(one)["fields"]) for one in caplog.records]
    assert [fields["call"] for name, fields in lines if name == "call_record"] == ["answered", *refused]
    assert [fields for name, fields in lines if name == "refused_unrecorded"] == [{"calls": 30}]


async def test_who_talks_with_a_caller_is_asked_and_changed(house: House) -> None:
    path = "/v1/calls/c1/assistant"
    assert (await house.client.get(path)).json() == {"assistant": "none", "state": "", "hears": False}
    assert (await house.client.get("/v1/calls/c1/transcript")).status_code == 404
    answer = await house.client.patch(path, json={"assistant": "scripted"})
    assert answer.json() == {"assistant": "scripted", "state": "listening", "hears": False}
    assert (await house.client.patch(path, json={"held": True})).json()["state"] == "held"
    assert (await house.client.patch(path, json={"held": False})).json()["state"] == "listening"
    wrong = await house.client.patch(path, json={"assistant": "nobody"})
    assert (wrong.status_code, wrong.json()["detail"]) == (
        400,
        "there is no assistant 'nobody': choose one of none, scripted",
    )
    assert (await house.client.get("/v1/calls/c1/transcript")).json() == {"call_id": "c1", "entries": []}
    assert (await house.client.patch(path, json={"assistant": "none"})).json()["state"] == ""
    wrong = await house.client.post("/v1/calls", json={"to": "sip:a@b", "assistant": "nobody"})
    assert wrong.status_code == 400
    house.one._turns.close()


async def test_traces_are_read_as_text(house: House) -> None:
    answer = await house.client.get("/v1/calls/c1/trace")
    assert (answer.status_code, "is not traced" in answer.json()["detail"]) == (404, True)
    house.traces.clear()
    assert (await house.client.get("/v1/calls/c1/trace")).status_code == 404
    assert (await house.client.put("/v1/calls/c1/trace")).status_code == 204
    assert (await house.client.put("/v1/calls/c2/trace")).status_code == 404
    answer = await house.client.get("/v1/calls/c1/trace")
    assert (answer.text, answer.headers["content-type"][:10]) == ("INVITE sip:x", "text/plain")
    assert (await house.client.put("/v1/traces", json={"calls": 3})).status_code == 204
    assert house.to_trace == 3


async def test_keys_and_transfer(house: House) -> None:
    answer = await house.client.post("/v1/calls/c1/dtmf", json={"digits": "12#", "milliseconds": 80})
    assert (answer.status_code, house.pressed) == (204, [("12#", 80)])
    answer = await house.client.post("/v1/calls/c1/transfer", json={"to": "sip:busy@b"})
    assert (answer.json(), house.hung_up) == ({"status": 486}, [])
    answer = await house.client.post("/v1/calls/c1/transfer", json={"to": "sip:human@b"})
    assert (answer.json(), house.hung_up) == ({"status": 200}, ["transferred"])
    assert (await house.client.post("/v1/calls/c1/dtmf", json={"digits": "1"})).status_code == 410
