"""A phone whose first key frames are lost sees again soon, however it asks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from bench.keyframes import WAYS, recovery
from testing.caller import Phone
from tests.support.house import House, orchestrator
from tests.support.servers import inference_server

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.process]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with inference_server() as server, orchestrator([server]) as house:
        async with Phone(house.uri):
            await house.idle_cached(await house.call_id())
        yield house


@pytest.mark.parametrize("way", WAYS)
async def test_picture_back_within_a_second(house: House, way) -> None:
    async with Phone(house.uri, blind=True) as phone:
        call = await house.call_id()
        times = [await recovery(phone, way)]
        while min(times) >= 1.0 and len(times) < 3:  # other work on this machine
            times.append(await recovery(phone, way))
    assert min(times) < 1.0, times
    deadline = time.monotonic() + 10  # the call's last figures come after its end
    while (await house.call(call))["media"].get("keyframe_requests", 0) < len(times):
        assert time.monotonic() < deadline, "the request was not counted"
        await asyncio.sleep(0.05)
