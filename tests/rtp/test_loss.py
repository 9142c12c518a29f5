"""What is sent again, and how many bits a second a lossy path gets."""

from __future__ import annotations

import itertools

import pytest

from orchestrator.rtp import packet, rtcp
from orchestrator.rtp.history import KEPT_PACKETS, SHORTEST_INTERVAL, SentPackets
from orchestrator.rtp.rate import RateControl
from orchestrator.rtp.rtx import retransmission


def filled(per_second: float, count: int, first: int = 0, ticks: int = 900) -> SentPackets:
    history = SentPackets(per_second)
    for number in range(count):
        sequence = (first + number) & 0xFFFF
        history.keep(sequence, bytearray(12) + sequence.to_bytes(2, "big"), number % 4 == 3, number * ticks)
    return history


def test_the_missing_packets_are_found_across_the_wrap() -> None:
    history = filled(100, 40, first=65_520)
    found = list(history.wanted((65_530, 3, 200), 10.0))
    assert [sent.sequence for sent in found] == [65_530, 3]
    assert found[0].packet[12:] == (65_530).to_bytes(2, "big")
    assert (found[1].marker, found[1].timestamp) == (True, 19 * 900)
    assert (history.asked, history.repeated) == (3, 2)


def test_what_is_older_than_a_second_is_not_repeated() -> None:
    history = filled(100, 200, ticks=900)
    assert [sent.sequence for sent in history.wanted((98, 99, 100), 5.0)] == [99, 100]


def test_the_ring_forgets() -> None:
    history = filled(100, KEPT_PACKETS + 10, ticks=1)
    assert [sent.sequence for sent in history.wanted((9, 10), 5.0)] == [10]


def test_a_packet_is_not_repeated_twice_at_once_but_again_later() -> None:
    history = filled(100, 10)
    assert len(list(history.wanted((5, 5, 5), 5.0))) == 1
    assert not list(history.wanted((5,), 5.0 + SHORTEST_INTERVAL / 2))
    assert list(history.wanted((5,), 5.0 + SHORTEST_INTERVAL * 1.1))


def test_repetition_is_bounded_whatever_is_asked() -> None:
    history = filled(50.0, 400, ticks=10)
    sent = sum(len(list(history.wanted(tuple(range(400)), step * 0.01))) for step in range(1000))
    assert sent <= 50 + 50 * 10
    assert list(history.wanted((399,), 100.0))


def test_two_lossy_reports_lower_and_clean_seconds_raise() -> None:
    rate = RateControl(1_000_000)
    rate.report(0.2, 0.0)
    assert rate.target == 1_000_000
    rate.report(0.0, 2.0)
    rate.report(0.2, 4.0)
    assert rate.target == 1_000_000
    rate.report(0.2, 6.0)
    assert rate.target == 700_000
    targets = []
    for second in itertools.count(8, 2):
        rate.report(0.0, float(second))
        targets.append(rate.target)
        if rate.target == 1_000_000:
            break
    assert targets[:5] == [700_000] * 5
    assert 20 <= second <= 40
    assert targets == sorted(targets)


def test_loss_alone_leaves_a_quarter() -> None:
    rate = RateControl(1_000_000)
    for second in range(0, 100, 2):
        rate.report(0.5, float(second))
    assert rate.target == 250_000
    small = RateControl(96_000)
    for second in range(0, 100, 2):
        small.report(0.5, float(second))
    assert small.target == 96_000


def test_reports_in_quick_succession_count_once() -> None:
    rate = RateControl(1_000_000)
    for step in range(100):
        rate.report(0.3, step * 0.01)
    assert rate.target == 700_000


def test_the_peers_limit_holds_at_once_within_bounds() -> None:
    rate = RateControl(1_000_000)
    rate.limit(300_000)
    assert rate.target == 300_000
    rate.limit(0)
    assert rate.target == 64_000
    rate.limit(10**12)
    assert rate.target == 1_000_000


@pytest.mark.parametrize("bits", [0, 1, 64_000, 131_072, 2_500_000])
def test_limits_survive_the_wire(bits: int) -> None:
    for sent in (
        rtcp.BitrateLimit(1, bits, (2,)),
        rtcp.BitrateLimit(1, bits, (2,), temporary=True),
        rtcp.BitrateNotice(1, bits, 2),
    ):
        (back,) = rtcp.parse(rtcp.build(sent))
        assert type(back) is type(sent)
        assert bits * 0.9999 - 1 <= back.bits_per_second <= bits


def test_a_retransmission_names_the_original() -> None:
    (sent,) = filled(100, 40, first=65_520).wanted((65_530,), 1.0)
    assert retransmission(sent)[packet.HEADER_SIZE :] == (65_530).to_bytes(2, "big") + sent.packet[12:]
