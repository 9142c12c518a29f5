"""A full orchestrator lets a new source in for one that holds lines and acknowledges nothing."""

from __future__ import annotations

import contextlib

import pytest

from testing.caller.phone import offer
from testing.caller.signalling import Dialog
from testing.processes import gauge
from tests.support.house import orchestrator
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow]

SILENT = "127.0.0.66"


async def test_a_full_house_has_a_line_for_a_new_source() -> None:
    async with (
        inference_server() as server,
        orchestrator([server], max_calls=10, sip_proxies="") as house,
        contextlib.AsyncExitStack() as calls,
    ):

        async def call(host: str) -> None:
            dialog = await calls.enter_async_context(Dialog(house.uri, host))
            await dialog.invite(offer(host, 40_000, None))

        silent = await calls.enter_async_context(Dialog(house.uri, SILENT))
        for number in range(3):
            silent._branch, silent._call_id = f"branch{number}", f"silent{number}"
            silent._send(
                silent._request(
                    "INVITE", house.uri, f"<{house.uri}>", offer(SILENT, 4000, None), "application/sdp"
                )
            )
        for number in range(7):
            await call(f"127.0.0.{10 + number}")
        assert await gauge(house.api, "visavis_calls_active") == 10
        await call("127.0.0.30")
        (record,) = (await house.api.get("/v1/records")).json()
        assert (record["source"], record["cause"], record["ended_by"]) == (SILENT, "no_ack", "us")
        assert record["reason"] == "not acknowledged while its line was needed"
