"""A whole call over a path that loses one packet in twenty."""

from __future__ import annotations

from bench.caller.repair import Repair, nack
from bench.loss import lossy_call
from orchestrator.rtp import rtcp
from tests.support.house import orchestrator
from tests.support.servers import inference_server


async def test_five_percent_lost_and_nearly_every_picture_shown() -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        result = await lossy_call(house, 0.05, seconds=12, rtt=0.05, nack=True)
    assert 0.02 < result.lost < 0.09
    assert result.recovered > 0
    assert result.share >= 0.98, str(result)


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
