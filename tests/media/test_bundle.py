"""A bundle's transport: nothing before a check authenticates, one handshake, streams by payload type, the end."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from OpenSSL import SSL

from orchestrator.media import bundle
from orchestrator.media.bundle import STEPS_PER_SLOT, BundleTransport, Handshakes
from orchestrator.media.clock import MediaClock
from orchestrator.media.parameters import AudioParameters
from orchestrator.rtp import packet, rtcp
from orchestrator.rtp.dtls import new_identity
from orchestrator.rtp.packet import Header
from testing.dtls_client import DtlsClient
from tests.support.web_peer import PEER, FakePath, WebPeer

IDENTITY = new_identity()
AUDIO = AudioParameters("opus", 111, ("0.0.0.0", 9), telephone_event=126)


class Place:
    """A transport with a voice and a picture, and what it told."""

    def __init__(self, handshakes: Handshakes | None = None) -> None:
        self.handshakes = handshakes or Handshakes(IDENTITY, MediaClock())
        self.path = FakePath()
        self.events: list[tuple[str, str]] = []
        self.transport = BundleTransport(self.path, self.handshakes, lambda *told: self.events.append(told))
        self.heard: list[tuple[Header, bytes]] = []
        self.reports: list[bytes] = []
        self.voice = self.transport.open_port(self._rtp, lambda data, now: self.reports.append(data))
        self.picture = self.transport.open_port(None, lambda data, now: self.reports.append(data))
        self.peer = WebPeer(self.transport, self.path, self.handshakes.step)
        self.transport.agree(self.peer.agreement)
        self.voice.agree(AUDIO, 0.0)

    def _rtp(self, head: Header, data: bytearray, now: float) -> None:
        self.heard.append((head, bytes(data[head.start : head.end])))

    def connected(self) -> Place:
        assert self.peer.check()
        assert self.peer.shake()
        return self


def rtp(payload_type: int) -> bytes:
    """A packet whose source and number follow from its payload type."""
    return packet.build(packet.RtpPacket(payload_type, payload_type, 960, payload_type, b"sound"))


def test_no_handshake_before_a_check_has_authenticated_the_address() -> None:
    place = Place()
    for datagram in place.peer.client.receive(None, 0.0):
        place.transport.receive(datagram, PEER, 0.0)
    place.handshakes.step(0.0)
    assert not place.peer.check(password="y" * 24)
    for datagram in place.peer.client.receive(None, 1.0):
        place.transport.receive(datagram, PEER, 1.0)
    place.handshakes.step(1.0)
    assert place.path.take() == []
    assert place.transport.strays
    assert place.peer.check()
    assert place.peer.shake()
    assert place.events == [("secured", "")]


def test_nothing_is_sent_before_there_are_keys() -> None:
    place = Place()
    assert place.voice.deliver(rtp(111)) == 0
    place.voice.send_rtcp(rtcp.build(rtcp.ReceiverReport(5)))
    place.peer.check()
    assert place.voice.deliver(rtp(111)) == 0
    assert place.path.take() == []


def test_voice_and_picture_go_to_the_browser_protected() -> None:
    place = Place().connected()
    place.path.take()
    assert place.voice.deliver(bytearray(rtp(111))) == len(rtp(111))
    assert place.picture.deliver(bytearray(rtp(96))) == len(rtp(96))
    place.picture.send_rtcp(rtcp.build(rtcp.ReceiverReport(5)))
    sent, reader = place.path.sent, place.peer.reader()
    assert {to for _, to in sent} == {PEER}
    assert [reader.unprotect(data) for data, _ in sent[:2]] == [rtp(111), rtp(96)]
    assert reader.unprotect_rtcp(sent[2][0]) == rtcp.build(rtcp.ReceiverReport(5))


def test_streams_are_told_apart_by_payload_type_and_a_camera_is_not_even_decrypted() -> None:
    place = Place().connected()
    protector = place.peer.protector()
    for payload_type in (111, 96, 126):
        place.transport.receive(protector.protect(rtp(payload_type)), PEER, 1.0)
    assert [(head.payload_type, data) for head, data in place.heard] == [(111, b"sound"), (126, b"sound")]
    assert place.transport.rejected == 0
    assert place.voice.heard_ago(2.0) == 1.0
    report = rtcp.build(rtcp.ReceiverReport(5))
    place.transport.receive(protector.protect_rtcp(report), PEER, 1.5)
    assert place.reports == [report, report]
    assert place.picture.anything_ago(2.0) == 0.5


def test_what_srtp_does_not_let_through_is_counted_and_nothing_else() -> None:
    place = Place().connected()
    for data in (rtp(111), rtcp.build(rtcp.ReceiverReport(5)), b"\x80\x6f", b"\x80", b"", b"\x40" * 9):
        place.transport.receive(data, PEER, 1.0)
    assert place.heard == []
    assert place.reports == []
    assert place.transport.rejected == 3


def test_a_wrong_certificate_ends_the_call_without_keys() -> None:
    place = Place()
    place.transport.agree(replace(place.peer.agreement, fingerprint=DtlsClient().fingerprint))
    place.peer.check()
    assert not place.peer.shake(1.0)
    ((event, reason),) = place.events
    assert event == "failed"
    assert "fingerprint" in reason
    assert place.voice.deliver(rtp(111)) == 0


def test_handshakes_of_many_share_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    handshakes = Handshakes(IDENTITY, MediaClock())
    places = [Place(handshakes) for _ in range(12)]
    taken: list[Any] = []
    real = BundleTransport.shake
    monkeypatch.setattr(BundleTransport, "shake", lambda *told: (taken.append(told), real(*told)))
    for place in places:
        assert place.peer.check()
        for datagram in place.peer.client.receive(None, 0.0):
            place.transport.receive(datagram, PEER, 0.0)
    slots = 0
    while len(taken) < len(places):
        before = len(taken)
        handshakes.step(0.005 * slots)
        assert 0 < len(taken) - before <= STEPS_PER_SLOT
        slots += 1
    assert slots == len(places) / STEPS_PER_SLOT


def test_close_notify_ends_it_at_once() -> None:
    place = Place().connected()
    for datagram in place.peer.client.close():
        place.transport.receive(datagram, PEER, 3.0)
    place.handshakes.step(3.0)
    assert place.events[1:] == [("left", "the browser closed its transport")]
    place.transport.receive(rtp(111), PEER, 3.0)


def test_a_browser_that_is_gone_is_missed_after_ten_seconds() -> None:
    place = Place().connected()
    place.peer.now = 5.0
    assert place.peer.check()
    place.handshakes.step(5.0 + bundle.CONSENT_SECONDS)
    assert len(place.events) == 1
    place.handshakes.step(5.3 + bundle.CONSENT_SECONDS)
    assert place.events[1][0] == "lost"
    assert "gone" in place.events[1][1]


def test_a_browser_that_never_gets_through_is_told_so() -> None:
    place = Place()
    start = place.handshakes.clock.wheel.time_of(place.handshakes.clock.wheel.slot)
    place.handshakes.step(start + bundle.FIRST_CHECK_SECONDS + 0.1)
    assert place.events[0][0] == "lost"
    assert "UDP nor TCP" in place.events[0][1]


def test_the_last_stream_says_goodbye_and_gives_the_socket_back() -> None:
    place = Place().connected()
    place.picture.close()
    assert not place.path.closed
    place.voice.close()
    place.voice.close()
    assert place.path.closed
    (goodbye, _) = place.path.sent[-1]
    place.peer.client.connection.bio_write(goodbye)
    with pytest.raises(SSL.ZeroReturnError):
        place.peer.client.connection.recv(100)


def test_ice_restarts_and_the_keys_stay() -> None:
    place = Place().connected()
    place.peer.ufrag, place.peer.address = "again", ("198.51.100.3", 6)
    place.transport.agree(place.peer.agreement)
    assert place.peer.check()
    place.path.take()
    assert place.voice.deliver(rtp(111)) > 0
    assert place.path.sent[0][1] == place.peer.address
    assert place.peer.reader().unprotect(place.path.sent[0][0]) == rtp(111)
