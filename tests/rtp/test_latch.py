"""Whom a stream may be sent to, whatever strangers spray at it and whenever: on a clock of the test's own."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.support.hypothesis_profile  # noqa: F401
from orchestrator.rtp.consent import UNPROVEN_OCTETS, Consent, Networks, SignallingPeer
from orchestrator.rtp.latch import PROBATION, WINDOW, Latch
from orchestrator.rtp.packet import Header

PHONE, BEHIND_NAT, NAT = ("192.168.1.5", 4000), ("10.9.9.9", 4000), ("198.51.100.7", 61000)
PROXY, NAMED = "203.0.113.1", ("192.0.2.20", 50000)
STRANGERS = [("203.0.113.66", 4000), ("203.0.113.67", 5000), ("192.168.1.6", 4000), ("10.9.9.8", 4000)]


def head(sequence: int, ssrc: int = 7) -> Header:
    return Header(0, False, sequence & 0xFFFF, sequence * 160, ssrc, 12, 172)


def run(latch: Latch, source: tuple[str, int], now: float, *, ssrc: int = 7, **options: bool) -> bool:
    """As many packets as it takes, at once."""
    return [latch.offer(source, head(n, ssrc), now, **options) for n in range(1, PROBATION + 1)][-1]


@dataclass(frozen=True)
class Packet:
    after: float
    source: tuple[str, int]
    ssrc: int
    sequence: int
    count: int


packets = st.lists(
    st.builds(
        Packet,
        st.sampled_from([0.0, 0.02, 0.5, 2.5, 11.0]),
        st.sampled_from([*STRANGERS, PHONE, NAT, BEHIND_NAT, (PHONE[0], 4002), (NAT[0], 61001)]),
        st.integers(1, 3),
        st.integers(0, 65535),
        st.integers(1, 12),
    ),
    max_size=40,
)
TOPOLOGIES = {
    "a plain phone": (PHONE, SignallingPeer((PHONE[0],)), {PHONE[0]}),
    "behind NAT": (BEHIND_NAT, SignallingPeer((NAT[0],)), {BEHIND_NAT[0], NAT[0]}),
    "behind NAT behind a proxy": (
        BEHIND_NAT,
        SignallingPeer((PROXY,), ("198.51.100.0/24",)),
        {BEHIND_NAT[0], PROXY, NAT[0]},
    ),
}


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("follows", [False, True])
@given(sprayed=packets, silent=st.booleans(), renewed=st.booleans())
def test_the_target_is_always_one_of_the_call_s_own(
    topology: str, follows: bool, sprayed: list[Packet], silent: bool, renewed: bool
) -> None:
    signalled, peer, allowed = TOPOLOGIES[topology]
    consent = Consent()
    voice = Latch(signalled, peer, consent, 0.0)
    latch = Latch(signalled, peer, consent, 0.0, follows=True) if follows else voice
    now = 0.0
    for packet in sprayed:
        now += packet.after
        if packet.source in STRANGERS or not silent:
            for number in range(packet.count):
                taken = latch.offer(packet.source, head(packet.sequence + number, packet.ssrc), now)
                assert not taken or packet.source[0] in allowed
                assert latch.target[0] in allowed
        if renewed and packet.count == 1:
            latch.signal(peer, now)
    if silent:
        assert latch.target == signalled and not latch.confirmed


@given(sent=st.lists(st.tuples(st.integers(1, 1500), st.booleans()), max_size=300))
def test_an_unproven_address_gets_half_a_second_and_three_times_what_came(
    sent: list[tuple[int, bool]],
) -> None:
    consent = Consent()
    received = granted = 0
    for octets, comes in sent:
        if comes:
            consent.received += octets
            received += octets
        elif consent.take(octets):
            granted += octets
        assert granted <= UNPROVEN_OCTETS + 3 * received


class TestWhoIsLearnt:
    def test_nobody_but_the_phone_s_own_host_moves_a_plain_phone(self) -> None:
        latch = Latch(PHONE, SignallingPeer((PHONE[0],)), Consent(), 0.0)
        assert latch.proven
        assert not any(run(latch, stranger, now) for stranger in STRANGERS for now in (0.1, 2.0, 20.0, 60.0))
        assert run(latch, (PHONE[0], 4002), 60.0)

    def test_a_phone_behind_nat_is_learnt_at_the_signalling_s_source(self) -> None:
        consent = Consent()
        latch = Latch(BEHIND_NAT, SignallingPeer((NAT[0],)), consent, 0.0)
        assert not latch.proven
        assert run(latch, NAT, 0.5)
        assert latch.target == NAT and latch.proven and consent.voice == NAT[0]

    def test_one_that_is_silent_at_first_is_learnt_later(self) -> None:
        latch = Latch(BEHIND_NAT, SignallingPeer((NAT[0],)), Consent(), 0.0)
        assert run(latch, NAT, 30.0)

    def test_the_signalling_s_source_takes_no_phone_that_was_heard_elsewhere(self) -> None:
        latch = Latch(PHONE, SignallingPeer((PROXY,)), Consent(), 0.0)
        assert latch.offer(PHONE, head(1), 0.1)
        assert not run(latch, (PROXY, 7000), 60.0, ssrc=9)

    def test_a_named_network_counts_for_three_seconds_after_each_offer(self) -> None:
        peer = SignallingPeer((PROXY,), ("192.0.2.0/24",))
        latch = Latch(BEHIND_NAT, peer, Consent(), 0.0)
        assert not run(latch, NAMED, WINDOW + 0.1)
        latch.signal(peer, 10.0)
        assert run(latch, NAMED, 10.0 + WINDOW)

    def test_the_signalled_phone_takes_back_what_a_network_s_took(self) -> None:
        latch = Latch(PHONE, SignallingPeer((PROXY,), ("192.168.0.0/16",)), Consent(), 0.0)
        assert run(latch, ("192.168.1.6", 4000), 0.1, ssrc=9)
        assert run(latch, PHONE, 0.3)
        assert latch.target == PHONE
        assert not run(latch, ("192.168.1.6", 4000), 0.5, ssrc=9)

    def test_who_authenticates_is_followed_at_any_time(self) -> None:
        latch = Latch(PHONE, SignallingPeer((PHONE[0],)), Consent(), 0.0)
        assert latch.offer(PHONE, head(1), 0.0)
        assert not run(latch, NAT, 60.0)
        assert run(latch, NAT, 60.0, authenticated=True)

    def test_a_phone_that_moved_is_learnt_at_once_where_its_signalling_moved(self) -> None:
        latch = Latch(BEHIND_NAT, SignallingPeer((NAT[0],)), Consent(), 0.0)
        assert run(latch, NAT, 0.5)
        elsewhere = ("198.51.100.99", 1234)
        assert latch.offer(NAT, head(100), 30.0)
        assert not run(latch, elsewhere, 30.0)
        latch.signal(SignallingPeer((elsewhere[0],)), 30.1)
        assert run(latch, elsewhere, 30.2)

    def test_strays_do_not_break_the_run_of_a_phone_behind_nat(self) -> None:
        latch = Latch(BEHIND_NAT, SignallingPeer((NAT[0],)), Consent(), 0.0)
        taken = []
        for number in range(PROBATION):
            taken.append(latch.offer(NAT, head(number), 0.1))
            assert not latch.offer(STRANGERS[0], head(number), 0.1)
        assert taken[-1]

    def test_reports_prove_an_address_and_those_of_strangers_do_not(self) -> None:
        latch = Latch(PHONE, SignallingPeer((PROXY,)), Consent(), 0.0)
        assert not latch.belongs(STRANGERS[0][0])
        latch.reported(STRANGERS[0][0])
        assert not latch.proven
        latch.reported(PHONE[0])
        assert latch.proven


class TestThePicture:
    def test_it_follows_the_voice_s_confirmed_host(self) -> None:
        consent = Consent()
        voice = Latch(BEHIND_NAT, SignallingPeer((NAT[0],)), consent, 0.0)
        picture = Latch((BEHIND_NAT[0], 4002), SignallingPeer((NAT[0],)), consent, 0.0, follows=True)
        assert not run(picture, (NAT[0], 61002), 0.2)
        assert run(voice, NAT, 0.3)
        assert run(picture, (NAT[0], 61002), 60.0)

    def test_it_is_proven_where_the_voice_was_heard(self) -> None:
        consent = Consent()
        voice = Latch(PHONE, SignallingPeer((PROXY,)), consent, 0.0)
        picture = Latch((PHONE[0], 4002), SignallingPeer((PROXY,)), consent, 0.0, follows=True)
        assert not picture.proven
        assert voice.offer(PHONE, head(1), 0.1)
        assert picture.proven


def test_networks_know_both_families_and_mapped_addresses() -> None:
    networks = Networks(["10.0.0.0/8", "fc00::/7"])
    assert "10.1.2.3" in networks and "::ffff:10.1.2.3" in networks and "fd00::1%eth0" in networks
    assert "192.0.2.1" not in networks and "2001:db8::1" not in networks and "phone.example" not in networks
