"""What is measured of a stream, whom it belongs to, and when a key frame is granted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tests.support.hypothesis_profile  # noqa: F401
from orchestrator.rtp.consent import Consent, SignallingPeer
from orchestrator.rtp.dtmf import DtmfReceiver, event_payloads
from orchestrator.rtp.feedback import KeyframeRequests
from orchestrator.rtp.latch import PROBATION, Latch
from orchestrator.rtp.packet import Header
from orchestrator.rtp.ports import PortPool, PortsExhausted
from orchestrator.rtp.stats import Reception, middle_ntp, round_trip, to_ntp

PHONE, NAT, STRANGER = ("10.0.0.1", 4000), ("192.0.2.1", 61000), ("203.0.113.9", 5000)


def head(sequence: int, ssrc: int = 7) -> Header:
    return Header(0, False, sequence & 0xFFFF, sequence * 160, ssrc, 12, 172)


class TestReception:
    def test_loss_over_a_wrap(self) -> None:
        stream = Reception(8000)
        for number in range(65500, 65700):
            if number % 10:
                stream.received(7, number & 0xFFFF, number * 160 & 0xFFFFFFFF, number * 0.02)
        stream.received(7, 65700 & 0xFFFF, 65700 * 160, 65700 * 0.02)
        block = stream.report(2000.0)
        assert block is not None
        # 65500 itself was lost before the first packet arrived, so 200 were expected.
        assert (stream.expected_packets, block.lost) == (200, 19)
        assert block.fraction_lost == (19 << 8) // 200
        assert block.highest == 65700
        again = stream.report(2001.0)
        assert again is not None and again.fraction_lost == 0 and again.lost == 19

    def test_jitter_of_a_known_pattern(self) -> None:
        # Arrivals alternate 5 ms late: |D| is 5 ms = 40 ticks for ever, so J tends to 40 (RFC 3550 A.8).
        stream = Reception(8000)
        for number in range(400):
            stream.received(7, number, number * 160, number * 0.02 + 0.005 * (number % 2))
        assert stream.jitter_seconds == pytest.approx(0.005, rel=0.01)

    @given(st.permutations(range(20)))
    def test_reordering_is_no_loss(self, order: list[int]) -> None:
        stream = Reception(8000)
        stream.received(7, 100, 0, 0.0)
        for number in order:
            stream.received(7, 101 + number, number * 160, number * 0.02)
        assert stream.lost_packets == 0

    def test_a_new_source_starts_anew(self) -> None:
        stream = Reception(8000)
        stream.received(7, 10, 0, 0.0)
        stream.received(8, 40000, 0, 0.1)
        assert stream.lost_packets == 0 and stream.ssrc == 8

    def test_round_trip_of_rfc_3550_figure_2(self) -> None:
        # A = 0xb710:8000, LSR 0xb705:2000, DLSR 5.25 s: 6.125 s.
        now = 0xB7108000 << 16
        assert round_trip(now, 0xB7052000, 0x00054000) == pytest.approx(6.125)
        assert round_trip(now, 0, 0) is None
        assert round_trip(now, 0xB7108000, 0x00100000) is None  # a delay longer than there was time

    def test_dlsr(self) -> None:
        stream = Reception(8000)
        stream.received(7, 1, 0, 10.0)
        ntp = to_ntp(1_700_000_000.5)
        stream.sender_report(ntp, 10.0)
        block = stream.report(11.5)
        assert block is not None and (block.lsr, block.dlsr) == (middle_ntp(ntp), 98304)


def latch_at(signalled: tuple[str, int], *hosts: str) -> Latch:
    return Latch(signalled, SignallingPeer((signalled[0], *hosts)), Consent(), 0.0)


class TestLatch:
    def test_one_stray_packet_moves_nothing(self) -> None:
        latch = latch_at(PHONE, NAT[0])
        assert not latch.offer(STRANGER, head(1), 0.0)
        assert latch.target == PHONE
        assert latch.offer(PHONE, head(1, 9), 0.1)
        for number in range(100):
            assert not latch.offer(STRANGER, head(number), 0.2 + number / 1000)
        assert latch.target == PHONE

    def test_a_nat_is_learnt_from_a_run(self) -> None:
        latch = latch_at(PHONE, NAT[0])
        answers = [latch.offer(NAT, head(100 + number), number * 0.02) for number in range(PROBATION)]
        assert answers == [False] * (PROBATION - 1) + [True]
        assert latch.target == NAT and latch.confirmed

    def test_gaps_and_other_sources_break_a_run(self) -> None:
        latch = latch_at(PHONE, NAT[0])
        for number in range(0, 40, 2):
            assert not latch.offer(NAT, head(number), 0.0)
        for number in range(40):
            source = NAT if number % 2 else STRANGER
            assert not latch.offer(source, head(number), 0.0)

    def test_a_nat_that_rebinds_must_keep_its_ssrc_or_wait_long(self) -> None:
        latch = latch_at(NAT)
        rebound, other = (NAT[0], 61001), (NAT[0], 61002)
        assert latch.offer(NAT, head(1, 7), 0.0)
        for number in range(20):
            assert not latch.offer(other, head(number, 8), 3.0)
        assert any(latch.offer(rebound, head(number, 7), 3.0) for number in range(PROBATION))
        assert latch.target == rebound
        assert any(latch.offer(other, head(number, 8), 13.1) for number in range(PROBATION))


class TestKeyframeRequests:
    def test_one_in_half_a_second_and_none_is_lost(self) -> None:
        requests = KeyframeRequests()
        assert not requests.due(0.0)
        requests.request()
        assert requests.due(0.0)
        requests.sent(0.0)
        requests.request()
        assert not requests.due(0.499)
        assert requests.due(0.5)
        requests.sent(0.5)
        assert not requests.due(9.0)

    def test_a_lost_first_key_frame_is_followed_by_another_soon(self) -> None:
        requests = KeyframeRequests()
        requests.sent(0.0)
        requests.request()
        assert not requests.due(0.14)
        assert requests.due(0.15)
        requests.sent(0.15)
        requests.request()
        assert not requests.due(0.64)
        assert requests.due(0.65)

    def test_fir_is_one_command_by_its_number(self) -> None:
        requests = KeyframeRequests()
        requests.full_intra(1, 4)
        requests.sent(0.0)
        requests.full_intra(1, 4)
        assert not requests.due(5.0)
        requests.full_intra(1, 5)
        assert requests.due(5.0)


def event(timestamp: int, sequence: int) -> Header:
    return Header(101, False, sequence, timestamp, 5, 12, 16)


class TestDtmf:
    @given(st.sampled_from("0123456789*#ABCD"), st.integers(0, 7))
    def test_a_press_is_one_digit_whatever_is_lost(self, digit: str, lost: int) -> None:
        receiver = DtmfReceiver()
        packets = event_payloads(digit, 800, 160)
        assert len(packets) == 7
        got = [
            receiver.push(event(4711, n), payload, 0.02 * n)
            for n, (_, payload) in enumerate(packets)
            if n >= min(lost, 6)
        ]
        assert [press.digit for press in got if press] == [digit]

    def test_two_presses_and_a_straggler(self) -> None:
        receiver = DtmfReceiver()
        (_, first), (_, second) = event_payloads("1", 160, 160)[0], event_payloads("2", 160, 160)[0]
        assert receiver.push(event(1000, 1), first, 0.0) and receiver.push(event(3000, 9), second, 0.16)
        assert receiver.push(event(1000, 2), first, 0.18) is None

    def test_short_and_unknown_events_are_nothing(self) -> None:
        assert DtmfReceiver().push(event(1, 1), b"\x01\x00", 0.0) is None
        assert DtmfReceiver().push(event(1, 1), b"\x63\x00\x00\xa0", 0.0) is None


class TestPorts:
    def test_pairs_come_back(self) -> None:
        pool = PortPool("127.0.0.1")
        pairs = [pool.open() for _ in range(4)]
        assert all(pair.port % 2 == 0 and pair.rtcp.getsockname()[1] == pair.port + 1 for pair in pairs)
        for pair in pairs:
            pair.close()
            pair.close()
        assert pool.in_use == 0

    def test_a_range_is_bounded_and_oldest_first(self) -> None:
        probe = PortPool("127.0.0.1").open()
        low = probe.port
        probe.close()
        pool = PortPool("127.0.0.1", low, low + 1)
        pair = pool.open()
        with pytest.raises(PortsExhausted, match="widen the port range"):
            pool.open()
        pair.close()
        pool.open().close()

    def test_a_port_that_is_taken_is_passed_over(self) -> None:
        holder = PortPool("127.0.0.1").open()
        pool = PortPool("127.0.0.1", holder.port, holder.port + 1)
        with pytest.raises(PortsExhausted):
            pool.open()
        holder.close()
        pool.open().close()
