"""A whole call over a path that loses one packet in twenty."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from bench.loss.call import VOICE_TICKS, lossy_call, voice_lost
from orchestrator.rtp import rtcp
from testing.caller.path import Losses, LossyPath
from testing.caller.recording import Packet, Stream, access_units
from testing.caller.repair import Repair, nack
from testing.loss_judge import Shown, is_corrupt
from testing.loss_trace import explain
from tests.support.house import orchestrator
from tests.support.servers import inference_server

STARVED = {"sent late", "late at the phone", "asked for late", "noticed late"}


@pytest.mark.slow
@pytest.mark.process
@pytest.mark.parametrize("rtx", [False, True])
async def test_five_percent_lost_and_nearly_every_picture_shown(rtx: bool) -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        result = await lossy_call(house, 0.05, seconds=6, rtt=0.05, nack=True, rtx=rtx)
    assert 0.01 < result.lost < 0.11
    assert result.recovered > 0
    assert (result.rtx > 0) == rtx
    video = result.video
    # A picture may be late for want of a processor, at the sender or at the phone, and for nothing else.
    starved = sum(video.faults[stamp] == "late" and cause in STARVED for stamp, cause in result.causes)
    assert video.shown + starved >= 0.97 * video.pictures, (str(result), result.stories)
    assert video.corrupt == 0
    assert result.audio_lost == pytest.approx(result.audio_path, abs=0.01)


@pytest.mark.parametrize(("share", "burst"), [(0.01, 1.0), (0.05, 1.0), (0.05, 3.0), (0.1, 3.0)])
def test_a_path_loses_what_it_is_meant_to(share: float, burst: float) -> None:
    for seed in range(5):
        losses = Losses(share, burst, seed)
        lost = [losses.next() for _ in range(3000)]
        assert sum(lost) / len(lost) == pytest.approx(share, abs=0.004)
        lengths = [len(list(run)) for gone, run in itertools.groupby(lost) if gone]
        assert np.mean(lengths) == pytest.approx(burst, rel=0.25)
        assert (max(lengths) >= 6) == (burst > 1)


def test_a_path_without_loss_loses_nothing() -> None:
    losses = Losses(0.0)
    assert not any(losses.next() for _ in range(1000))


def crossing(path: LossyPath, number: int, at: float, *, again: bool = False) -> bool:
    rtp = struct.pack("!BBHII", 0x80, 0x80, number, number * 3600, 7) + b"\x61\0"
    if again:
        rtp = struct.pack("!BBHIIH", 0x80, 97, number + 900, number * 3600, 8, number)
    return path.crosses(rtp, at)


def test_each_picture_not_shown_has_its_cause() -> None:
    path, arrived, repair = LossyPath(0.0, 0.02), Stream(90_000), Repair()
    lost = {3, 4, 7, 9}
    for number in range(1, 12):
        path._losses.next = lambda number=number: number in lost  # type: ignore[method-assign, misc]
        sent = number * 0.04 + (0.3 if number == 11 else 0.0)
        if not crossing(path, number, sent):
            arrived.on_rtp(struct.pack("!BBHII", 0x80, 0x80, number, number * 3600, 7), sent + 0.02)
    path._losses.next = lambda: False  # type: ignore[method-assign]
    repair.asks = {3: [0.225], 7: [0.4], 9: [0.42]}
    crossing(path, 3, 0.25, again=True)
    crossing(path, 7, 0.43, again=True)
    shown = Shown(11, 6, 0, 5, 0, 0.0, None, dict.fromkeys((3600 * n for n in (3, 4, 7, 9, 11)), "late"))
    causes = [cause for cause, _ in explain(shown, path, arrived, repair)]
    assert causes == ["noticed late", "never asked for", "asked for late", "never repeated", "sent late"]
    assert path.share_lost() == pytest.approx(4 / 11)
    assert len(path.entered.packets) == 11


def test_a_burst_at_the_end_of_a_call_is_lost_too() -> None:
    path, voice = LossyPath(0.0, 0.0, clock_rate=8000), Stream(8000)
    for number in range(100):
        path._losses.next = lambda number=number: number >= 90  # type: ignore[method-assign, misc]
        data = struct.pack("!BBHII", 0x80, 0, number, number * VOICE_TICKS, 7) + bytes(160)
        if not path.crosses(data, number * 0.02):
            voice.on_rtp(data, number * 0.02)
    assert voice_lost(path, voice, 2.0) == pytest.approx((0.1, 0.1))
    assert voice_lost(path, voice, 1.8 - 1e-6) == pytest.approx((0.0, 0.0))


def test_the_phone_asks_for_what_is_missing_until_it_is_too_late() -> None:
    repair = Repair()
    for sequence in (10, 11, 14, 31):
        repair.arrived(sequence, 1.0)
    ask, given_up = repair.due(1.0)
    assert (ask, given_up) == ([12, 13, *range(15, 31)], False)
    assert rtcp.parse(nack(1, 2, ask)) == [rtcp.ReceiverReport(1), rtcp.Nack(1, 2, tuple(ask))]
    assert repair.due(1.01) == ([], False)
    repair.arrived(12, 1.05)
    assert repair.due(1.1)[0] == ask[1:]
    assert repair.due(1.4) == ([], True)
    assert (repair.recovered, repair.given_up) == (1, 17)


def test_a_picture_whose_neighbour_lost_its_end_is_whole() -> None:
    def fragment(sequence: int, timestamp: int, flags: int, marker: bool = False) -> Packet:
        return Packet(sequence, timestamp, marker, 96, bytes((0x7C, flags | 1, sequence)), float(sequence))

    packets = [
        fragment(1, 0, 0x80),  # its end is lost
        fragment(3, 3600, 0x80),
        fragment(4, 3600, 0x40, marker=True),
        fragment(6, 7200, 0x40, marker=True),  # its start is lost
        fragment(7, 10800, 0x80),
        fragment(8, 10800, 0x40, marker=True),
    ]
    assert [(stamp, at) for _, stamp, at in access_units(packets)] == [(3600, 4.0), (10800, 8.0)]


def test_what_a_person_would_not_see_is_not_corrupt() -> None:
    right = np.random.default_rng(1).integers(16, 235, (128, 192), np.uint8)
    assert not is_corrupt(np.clip(right.astype(int) + 2, 0, 255).astype(np.uint8), right)
    wrong = right.copy()
    wrong[64:80, 32:48] = 128
    assert is_corrupt(wrong, right)
    assert is_corrupt(right[:64], right)
