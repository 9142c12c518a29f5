"""A call whose phone is gone is ended."""

from __future__ import annotations

import asyncio

import pytest

from bench.caller import Phone
from tests.support.house import orchestrator
from tests.support.servers import inference_server

pytestmark = pytest.mark.process


async def test_a_call_without_rtp_and_rtcp_is_ended() -> None:
    async with (
        inference_server() as server,
        orchestrator([server], rtp_timeout_s=2) as house,
        Phone(house.uri) as phone,
        Phone(house.uri),
    ):
        await asyncio.sleep(1.0)
        phone.mute()
        async with asyncio.timeout(30):
            await phone.hung_up.wait()
        calls = (await house.api.get("/v1/calls")).json()
        assert sorted(call["cause"] for call in calls) == ["", "rtp timeout"]
