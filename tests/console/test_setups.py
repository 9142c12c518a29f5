"""Many set-ups at once, all over one UDP port, and what is left of them: nothing."""

from __future__ import annotations

import asyncio

import pytest

from testing.ports import free_port
from testing.web_agent import set_up
from tests.support.credentials import API_TOKEN
from tests.support.house import orchestrator
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow]
AT_ONCE, CALLS = 10, 100


async def test_a_hundred_set_ups_over_one_port() -> None:
    async with (
        inference_server() as server,
        orchestrator([server], web_udp_port=free_port(), media_workers=1) as house,
    ):
        turns = asyncio.Semaphore(AT_ONCE)

        async def one() -> None:
            async with turns:
                await set_up(house.api.base_url.port or 0, API_TOKEN, 0.2)

        await asyncio.gather(*(one() for _ in range(CALLS)))
        async with asyncio.timeout(10):
            while (await house.status())["calls"]:
                await asyncio.sleep(0.1)
        records = (await house.api.get(f"/v1/records?limit={2 * CALLS}")).json()
        assert len(records) == CALLS
        assert {(one["cause"], one["srtp"]) for one in records} <= {("bye by peer", True)}
        assert all(one["media"]["audio"]["sent_packets"] > 0 for one in records)
        assert [worker["calls"] for worker in (await house.status())["workers"]] == [0]
