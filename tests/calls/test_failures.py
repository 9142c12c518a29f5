"""What a caller notices when an inference server dies, stalls or comes back: the voice never does."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from testing.caller import Phone
from testing.ports import free_port
from testing.processes import family
from tests.support.house import orchestrator, tone
from tests.support.recordings import assert_voice_whole, gaps, lips
from tests.support.servers import running_server

pytestmark = pytest.mark.process


@pytest.mark.slow
async def test_server_killed_and_started_again_mid_sentence() -> None:
    port = free_port()
    async with running_server(port=port) as server, orchestrator([server.address]) as house:  # noqa: SIM117
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            turn = await house.play(call, [(0.0, tone(16.0))])
            await asyncio.sleep(2.0)
            server.kill()
            await server.process.wait()
            async with running_server(port=port) as again:
                up = time.monotonic() - phone.recording.audio.packets[0].arrived
                assert (await house.turn(call, turn))["heard_ms"] > 15_990
                await asyncio.sleep(0.3)
                assert again.process.returncode is None
    assert_voice_whole(phone.recording, 16.0)
    shown = lips(phone.recording)
    away = gaps(shown)
    assert len(away) == 1, away
    assert sum(away[0]) <= up + 3.0  # lips are back soon after a server is, in mid-sentence
    assert shown[-1] > sum(away[0]) + 0.5


@pytest.mark.slow
async def test_engine_process_killed_mid_sentence() -> None:
    async with running_server() as server, orchestrator([server.address]) as house, Phone(house.uri) as phone:
        call = await house.call_id()
        turn = await house.play(call, [(0.0, tone(12.0))])
        await asyncio.sleep(2.0)
        os.kill(server.engine_pid, signal.SIGKILL)
        assert (await house.turn(call, turn))["state"] == "finished"
        await asyncio.sleep(0.3)
    assert_voice_whole(phone.recording, 12.0)
    shown = lips(phone.recording)
    assert len(gaps(shown)) <= 1
    assert shown[-1] - shown[0] > 11.0


@pytest.mark.slow
async def test_the_other_server_takes_over() -> None:
    async with (
        running_server() as first,
        running_server() as second,
        orchestrator([first.address, second.address]) as house,
        Phone(house.uri) as phone,
    ):
        call = await house.call_id()
        await asyncio.sleep(2.5)  # an avatar in use is made ready on the second server too
        turn = await house.play(call, [(0.0, tone(8.0))])
        await asyncio.sleep(2.0)
        serving = next(
            line["reason"]
            for line in reversed(house.log)
            if line["event"] == "avatar" and line.get("state") == "connected"
        )
        (first if serving == first.address else second).kill()
        assert (await house.turn(call, turn))["state"] == "finished"
        await asyncio.sleep(0.3)
    assert_voice_whole(phone.recording, 8.0)
    away = gaps(lips(phone.recording), 0.1)
    assert sum(seconds for _, seconds in away) <= 2.0, away


@pytest.mark.slow
async def test_frozen_server_stalls_the_lips_only() -> None:
    """SIGSTOP: the connection lives and nothing comes."""
    async with running_server() as server, orchestrator([server.address]) as house, Phone(house.uri) as phone:
        call = await house.call_id()
        turn = await house.play(call, [(0.0, tone(8.0))])
        await asyncio.sleep(2.0)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(2.0)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert (await house.turn(call, turn))["state"] == "finished"
        await asyncio.sleep(0.3)
    assert_voice_whole(phone.recording, 8.0)
    shown = lips(phone.recording)
    assert shown[-1] - shown[0] > 7.0  # they came back


async def test_media_worker_killed_ends_its_calls_and_is_replaced() -> None:
    async with running_server() as server, orchestrator([server.address]) as house:
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            (worker,) = [
                pid
                for pid in family(house.process.pid)
                if b"orchestrator.worker.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
            ]
            os.kill(worker, signal.SIGKILL)
            await asyncio.wait_for(phone.hung_up.wait(), 10)
            assert "media worker" in (await house.call(call))["cause"]
        await house.ready()
        async with Phone(house.uri) as phone:
            await asyncio.sleep(1.0)
        assert len(phone.recording.frames()) > 10
