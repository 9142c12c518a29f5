"""Calls by a gateway that is not SIP's: answered, spoken in, changed, ended and recorded all the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from orchestrator.calls.events import EventBus
from orchestrator.calls.gateway import Agreement, CallEnd, DialOrder, DialRefused, RefusedInvitation
from orchestrator.calls.portraits import AvatarCatalog
from orchestrator.calls.records import CallRecord
from orchestrator.calls.registry import CallRegistry
from orchestrator.config import Settings
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import SessionStats, StreamStats
from orchestrator.rtp.bundle import BundleAgreement, Fingerprint
from orchestrator.rtp.ice import IceCredentials
from orchestrator.speech.base import VoiceByLanguage
from orchestrator.worker.messages import (
    CallFigures,
    CallOpened,
    ConfigureCall,
    Heartbeat,
    LipsFigures,
    LipsStats,
    MediaSecured,
    Message,
    RequestKeyframe,
    SendDigits,
    StartCall,
    StartTurn,
)
from orchestrator.worker.pool import NoRoom
from tests.support.calls import Peer
from visavis import portraits

AUDIO = AudioParameters("opus", 111, ("192.0.2.1", 4000), telephone_event=101)
VIDEO = VideoParameters(96, ("192.0.2.1", 4002), 512, 512)
FIGURES = SessionStats(2.0, StreamStats(sent_packets=100), 0, 0, 0.01)


@dataclass
class Media:
    """A pool of media workers that writes down what it is told."""

    sent: list[Message] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    async def open_call(self, call_id: str, *, video: bool = True, bundle: bool = False) -> CallOpened:
        return CallOpened(call_id, 40_000, 40_002 if video else None)

    async def close_call(self, call_id: str) -> SessionStats | None:
        self.closed.append(call_id)
        return FIGURES

    def send(self, message: Message) -> None:
        self.sent.append(message)


class Tab(Peer):
    """A call out of a browser's tab."""

    def __init__(self, registry: CallRegistry, call_id: str) -> None:
        self.registry, self.call_id = registry, call_id
        self.hung_up: list[str] = []

    def answer(self, ports: CallOpened) -> None:
        call = self.registry.under_way(self.call_id)
        assert call is not None and ports.audio_port == 40_000
        call.on_media(Agreement(AUDIO, VIDEO if ports.video_port else None, Fraction(25)))

    def hang_up(self, reason: str) -> None:
        self.hung_up.append(reason)


class Browsers:
    """A gateway for browsers, to the registry's half of the contract."""

    addresses: Mapping[str, Sequence[str]] = {"WSS": ["192.0.2.9:443"]}

    def __init__(self, registry: CallRegistry) -> None:
        self.registry = registry
        self.tabs: dict[str, Tab] = {}

    async def start(self) -> None: ...
    def trace_calls(self, calls: int) -> None: ...
    def drain(self) -> None: ...
    async def close(self) -> None: ...

    async def knock(self, call_id: str, *, video: bool = True) -> Tab:
        tab = self.tabs[call_id] = Tab(self.registry, call_id)
        await self.registry.accept(call_id, tab, video=video)
        return tab

    def dial(self, call_id: str, order: DialOrder, ports: CallOpened) -> Tab:
        if order.to != "anna":
            raise DialRefused("nobody of this name has a page open")
        tab = self.tabs[call_id] = Tab(self.registry, call_id)
        tab.direction = "out"
        return tab


@dataclass
class Place:
    media: Media
    bus: EventBus
    registry: CallRegistry
    gateway: Browsers
    records: list[CallRecord]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    settings = Settings(greeting="", data_dir=tmp_path, max_calls=1, rtp_timeout_s=60.0)
    media, bus = Media(), EventBus()
    pool: Any = media
    catalog = AvatarCatalog(tmp_path / "avatars", portraits.DEFAULT)
    registry = CallRegistry(settings, pool, catalog, VoiceByLanguage({}), bus)
    records = list[CallRecord]()
    registry.records.keep = lambda record, refused: records.append(record)
    return Place(media, bus, registry, Browsers(registry), records)


async def test_a_call_of_another_gateway_is_a_call(place: Place) -> None:
    async with place.bus.listen() as events:
        tab = await place.gateway.knock("b1")
        assert place.media.sent == [ConfigureCall("b1", AUDIO, VIDEO)]
        assert place.registry.active == 1 and place.registry.calls == []  # nobody is there yet
        call = place.registry.under_way("b1")
        assert call is not None
        call.on_established()
        start = place.media.sent[-1]
        assert isinstance(start, StartCall) and start.portrait == str(portraits.DEFAULT)
        assert place.registry.calls == [call]
        call.on_keyframe_request()
        await call.press("5", 100)
        assert place.media.sent[2:] == [RequestKeyframe("b1"), SendDigits("b1", "5", 100)]
        place.registry.on_message(LipsFigures("b1", LipsStats(10, 1, 0, 40.0)))
        place.registry.on_message(Heartbeat(0, 0, False, 0.0, 1, 0.0, 0.0, 0.0, 0.0))
        call.hang_up()
        assert tab.hung_up == ["api"]
        await place.registry.end("b1", CallEnd("hangup", "us", signalling={"tab": 7}))
        assert call.over.is_set() and place.media.closed == ["b1"] and place.registry.active == 0
        await place.registry.end("b1", CallEnd("hangup", "peer"))  # is over already
        told = [events.get_nowait().as_dict() for _ in range(2)]
        with pytest.raises(asyncio.QueueEmpty):
            events.get_nowait()
    assert [event["event"] for event in told] == ["answered", "ended"]
    assert (told[0]["audio"], told[0]["video"]) == ("opus/48000", "H264 512x512@25")
    (record,) = place.records
    assert (record.cause, record.ended_by, record.signalling) == ("api", "us", {"tab": 7})
    assert record.as_dict()["tab"] == 7
    assert record.media["frames_shown"] == 10 and "first_frame_ms" not in record.media
    assert record.media["audio"]["sent_packets"] == 100


async def test_a_browser_is_sent_nothing_before_its_handshake_is_over_and_the_first_word_is_ready_by_then(
    place: Place,
) -> None:
    await place.gateway.knock("b1")
    call = place.registry.under_way("b1")
    assert call is not None
    bundle = BundleAgreement(IceCredentials.fresh(), "theirs", Fingerprint("sha-256", "00"))
    call.on_media(Agreement(AUDIO, VIDEO, Fraction(25), bundle=bundle))
    call.on_answered = lambda answered: place.media.sent.append(StartTurn(answered.call_id, 1))
    call.on_established()
    start, turn = place.media.sent[-2:]
    assert isinstance(start, StartCall) and not start.sends
    assert isinstance(turn, StartTurn) and place.registry.calls == [call]
    place.registry.on_message(MediaSecured("b1"))
    assert place.media.sent[-1] == replace(start, sends=True)
    await place.registry.end("b1", CallEnd("hangup", "peer"))


async def test_a_handshake_that_never_ends_does_not_keep_the_call_waiting(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.calls.call.SECURED_S", 0.01)
    await place.gateway.knock("b1")
    call = place.registry.under_way("b1")
    assert call is not None
    bundle = BundleAgreement(IceCredentials.fresh(), "theirs", Fingerprint("sha-256", "00"))
    call.on_media(Agreement(AUDIO, VIDEO, Fraction(25), bundle=bundle))
    call.on_established()
    await asyncio.sleep(0.05)
    start = place.media.sent[-1]
    assert isinstance(start, StartCall) and start.sends
    await place.registry.end("b1", CallEnd("hangup", "peer"))


async def test_a_call_of_ours_by_another_gateway(place: Place) -> None:
    with pytest.raises(DialRefused, match="nobody of this name"):
        await place.registry.dial(place.gateway, DialOrder("zoe", "default", "", "en"))
    assert len(place.media.closed) == 1 and place.registry.active == 0
    async with place.bus.listen() as events:
        call_id = await place.registry.dial(place.gateway, DialOrder("anna", "default", "", "en"))
        call = place.registry.under_way(call_id)
        assert call is not None
        call.on_ringing(180)
        await place.registry.end(call_id, CallEnd("no_answer", "us", 408, "nobody answered"))
        told = [events.get_nowait().as_dict() for _ in range(2)]
    assert [(event["event"], event["status"]) for event in told] == [("ringing", 180), ("ended", 408)]
    assert (told[1]["cause"], told[1]["reason"], told[1]["seconds"]) == ("no_answer", "nobody answered", 0.0)
    (record,) = place.records
    assert (record.direction, record.answered_at, record.audio) == ("out", None, None)


async def test_there_is_room_for_so_many_whichever_way_they_come(place: Place) -> None:
    await place.gateway.knock("b1", video=False)
    with pytest.raises(NoRoom, match="1 calls are under way"):
        await place.gateway.knock("b2")
    with pytest.raises(DialRefused, match="try again later"):
        await place.registry.dial(place.gateway, DialOrder("anna", "default", "", "en"))
    place.registry.refuse(
        RefusedInvitation("b2", "anna", "demo", "192.0.2.1", "", "no_room", signalling={"tab": 8})
    )
    (record,) = place.records
    assert (record.cause, record.signalling, place.registry.refused) == ("no_room", {"tab": 8}, 1)


async def test_a_caller_who_is_gone_before_there_was_room_is_not_answered(place: Place) -> None:
    tab = Tab(place.registry, "b1")
    tab.ended = CallEnd("cancelled", "peer", 487)
    await place.registry.accept("b1", tab, video=True)
    assert place.media.sent == [] and place.media.closed == ["b1"]
    (record,) = place.records
    assert (record.cause, record.ended_by) == ("cancelled", "peer")


async def test_a_call_without_a_voice_or_with_silent_media_is_ended(place: Place) -> None:
    tab = await place.gateway.knock("b1")
    call = place.registry.under_way("b1")
    assert call is not None
    call.on_established()
    place.registry.on_message(
        CallFigures("b1", SessionStats(9.0, StreamStats(), 0, 0, None, silent_for=59.0))
    )
    assert tab.hung_up == []
    for _ in range(2):
        place.registry.on_message(
            CallFigures("b1", SessionStats(70.0, StreamStats(), 0, 0, None, silent_for=61.0))
        )
    assert tab.hung_up == ["rtp timeout"]
    call.on_media(None)
    await place.registry.end("b1", CallEnd("hangup", "us"))
    assert tab.hung_up == ["rtp timeout", "no audio was agreed"]
    assert place.records[0].cause == "rtp timeout"
