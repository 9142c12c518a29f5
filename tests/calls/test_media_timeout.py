"""A call whose phone is gone is ended, and one that lasts too long."""

from __future__ import annotations

import asyncio

import pytest

from testing.caller import Phone
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


async def test_a_call_that_lasts_too_long_is_ended_and_told() -> None:
    async with (
        inference_server() as server,
        orchestrator([server], max_call_s=3) as house,
        Phone(house.uri) as phone,
    ):
        async with asyncio.timeout(30):
            await phone.hung_up.wait()
            while not (records := (await house.api.get("/v1/records")).json()):
                await asyncio.sleep(0.05)
        (record,) = records
        assert (record["cause"], record["sip_cause"], record["ended_by"]) == ("too_long", "too_long", "us")
        assert record["reason"] == "no call lasts longer than 3 s"
        (call,) = (await house.api.get("/v1/calls")).json()
        assert call["cause"] == "too_long"
        ended = [line for line in house.log if line["event"] == "ended"]
        assert [line["cause"] for line in ended] == ["too_long"]
