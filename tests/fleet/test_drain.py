"""Servers and orchestrators that are told to go while somebody is on the phone: nobody notices."""

from __future__ import annotations

import asyncio
import signal

import numpy as np
import pytest

from testing.caller import CallFailed, Phone
from tests.support.house import House, orchestrator, tone
from tests.support.recordings import assert_voice_whole, lips
from tests.support.servers import InferenceServer, running_server

pytestmark = [pytest.mark.process, pytest.mark.slow]


def serving(house: House, servers: list[InferenceServer]) -> InferenceServer:
    """The server that the only call talks to."""
    address = next(
        line["reason"]
        for line in reversed(house.log)
        if line["event"] == "avatar" and line.get("state") == "connected"
    )
    return next(server for server in servers if server.address == address)


@pytest.mark.parametrize(
    "drain_s", [10.0, 1.5], ids=["turn ends before the deadline", "deadline in mid-turn"]
)
async def test_sigterm_mid_sentence_leaves_no_gap(drain_s: float) -> None:
    """Rolling restart of the server that speaks: the same turn, whole, on the old one and then elsewhere."""
    async with (
        running_server(host="127.0.0.2", drain_s=drain_s) as first,
        running_server(host="127.0.0.3", drain_s=drain_s) as second,
        orchestrator([first.address, second.address]) as house,
        Phone(house.uri) as phone,
    ):
        call = await house.call_id()
        await asyncio.sleep(2.5)  # an avatar in use is made ready on the second server too
        turn = await house.play(call, [(0.0, tone(6.0))])
        await asyncio.sleep(1.5)
        old = serving(house, [first, second])
        assert await old.stop() == 0
        assert (await house.turn(call, turn))["state"] == "finished"
        again = await house.play(call, [(0.0, tone(2.0))])
        assert (await house.turn(call, again))["state"] == "finished"
        assert serving(house, [first, second]) is not old
        await asyncio.sleep(0.3)
    assert_voice_whole(phone.recording, 8.0)
    shown = lips(phone.recording)
    between = np.diff(shown)
    rest = int(np.argmax(between))  # the silence between the two turns
    gaps = np.delete(between, rest)
    assert gaps.max() < 0.3, gaps.max()
    assert (gaps > 0.13).sum() <= 2, gaps[gaps > 0.13]  # a loaded machine skips pictures


async def test_draining_orchestrator_keeps_its_calls_to_their_end() -> None:
    async with running_server() as server, orchestrator([server.address], drain_s=60) as house:
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            turn = await house.play(call, [(0.0, tone(4.0))])
            await asyncio.sleep(1.0)
            house.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                while (await house.api.get("/readyz")).status_code == 200:
                    await asyncio.sleep(0.05)
            with pytest.raises(CallFailed, match="503"):
                async with Phone(house.uri):
                    pass
            assert (await house.turn(call, turn))["state"] == "finished"
            assert house.process.returncode is None
            await asyncio.sleep(0.3)
        assert await asyncio.wait_for(house.process.wait(), 20) == 0
    assert_voice_whole(phone.recording, 4.0)


async def test_drain_ends_at_its_deadline() -> None:
    async with running_server() as server, orchestrator([server.address], drain_s=1.0) as house:
        async with Phone(house.uri) as phone:
            await house.call_id()
            house.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(phone.hung_up.wait(), 20)
        assert await asyncio.wait_for(house.process.wait(), 20) == 0


async def test_without_a_drain_calls_are_hung_up_at_once() -> None:
    async with running_server() as server, orchestrator([server.address]) as house:
        async with Phone(house.uri) as phone:
            await house.call_id()
            house.process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(phone.hung_up.wait(), 20)
        assert await asyncio.wait_for(house.process.wait(), 20) == 0
