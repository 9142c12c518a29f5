"""A whole call over a path that loses one packet in twenty."""

from __future__ import annotations

import numpy as np
import pytest

from bench.caller.recording import Packet, access_units
from bench.caller.repair import Repair, nack
from bench.loss import lossy_call
from bench.loss_judge import is_corrupt
from orchestrator.rtp import rtcp
from tests.support.house import orchestrator
from tests.support.servers import inference_server


@pytest.mark.parametrize("rtx", [False, True])
async def test_five_percent_lost_and_nearly_every_picture_shown(rtx: bool) -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        result = await lossy_call(house, 0.05, seconds=6, rtt=0.05, nack=True, rtx=rtx)
    assert 0.01 < result.lost < 0.11
    assert result.recovered > 0
    assert (result.rtx > 0) == rtx
    video = result.video
    # Late: other work on this machine.
    assert video.shown + video.late >= 0.97 * video.pictures, str(result)
    assert video.corrupt == 0
    assert result.audio_lost == pytest.approx(result.audio_path, abs=0.01)


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
