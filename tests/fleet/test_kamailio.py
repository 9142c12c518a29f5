"""Two orchestrators behind Kamailio with the configuration that is shipped."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
from pathlib import Path

import pytest

from testing.caller import CallFailed, Phone
from tests.peers.kamailio import FOLDER, command, proxy
from tests.support.house import House, orchestrator
from tests.support.servers import running_server

pytestmark = [pytest.mark.peer("kamailio"), pytest.mark.process, pytest.mark.slow]


def test_the_configuration_is_valid() -> None:
    done = subprocess.run(
        [*command("udp:127.0.0.1:5060", FOLDER / "dispatcher.list"), "-c"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "config file ok" in done.stderr.lower(), done.stderr


async def calls(house: House) -> int:
    found = (await house.api.get("/v1/calls")).json()
    return sum(call["ended_at"] is None for call in found)


async def spread(first: House, second: House, expected: tuple[int, int]) -> None:
    """Until the orchestrators have so many calls: each counts a call from its ACK on, which is still on its way."""
    found = None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(5):
            while (found := (await calls(first), await calls(second))) != expected:
                await asyncio.sleep(0.05)
    assert found == expected


async def refused(house: House) -> float:
    """Calls that the orchestrator refused itself, since its machine had no room."""
    text = (await house.api.get("/metrics")).text
    return float(re.findall(r"^visavis_calls_refused_total (.+)$", text, re.MULTILINE)[0])


async def test_calls_spread_and_a_draining_orchestrator_gets_no_more(tmp_path: Path) -> None:
    async with (
        running_server() as server,
        orchestrator([server.address], drain_s=120) as first,
        orchestrator([server.address], drain_s=120) as second,
        proxy(tmp_path, [first, second]) as uri,
        contextlib.AsyncExitStack() as phones,
    ):
        early = [await phones.enter_async_context(Phone(uri, video=False)) for _ in range(4)]
        await spread(first, second, (2, 2))
        first.process.send_signal(signal.SIGTERM)
        # at once, before the proxy can know by OPTIONS: no call fails
        late = [await phones.enter_async_context(Phone(uri, video=False)) for _ in range(4)]
        await spread(first, second, (2, 6))
        await asyncio.sleep(0.5)
        assert not any(phone.hung_up.is_set() for phone in (*early, *late))
        await phones.aclose()
        assert await asyncio.wait_for(first.process.wait(), 30) == 0
        async with Phone(uri, video=False):
            async with asyncio.timeout(5):
                while await calls(second) != 1:
                    await asyncio.sleep(0.05)
        async with orchestrator([server.address], sip_port=first.sip_port) as again, asyncio.timeout(60):
            while True:  # until Kamailio has asked it again
                async with Phone(uri, video=False):
                    await asyncio.sleep(0.1)  # its ACK
                    if await calls(again) == 1:
                        break
    for phone in (*early, *late):
        assert phone.recording.audio.lost == 0


async def test_no_call_fails_while_an_orchestrator_is_restarted_under_load(tmp_path: Path) -> None:
    """Two callers ring one after the other all the while."""
    async with (
        running_server() as server,
        orchestrator([server.address], drain_s=60) as first,
        orchestrator([server.address], drain_s=60) as second,
        proxy(tmp_path, [first, second]) as uri,
    ):
        over = asyncio.Event()

        async def caller() -> int:
            made = 0
            while not over.is_set() or made < 4:
                before = await refused(second)
                try:
                    async with Phone(uri, video=False) as phone:
                        await asyncio.sleep(0.5)
                        assert not phone.hung_up.is_set()
                except CallFailed:  # a machine that others keep busy may refuse calls for a while
                    if await refused(second) == before:
                        raise
                    await asyncio.sleep(1.0)
                    continue
                made += 1
            return made

        callers = [asyncio.create_task(caller()) for _ in range(2)]
        await asyncio.sleep(1.0)
        first.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(first.process.wait(), 60) == 0
        async with orchestrator([server.address], sip_port=first.sip_port) as again:
            async with asyncio.timeout(60):
                while not await calls(again):
                    await asyncio.sleep(0.05)
            over.set()
            assert sum(await asyncio.gather(*callers)) >= 8
