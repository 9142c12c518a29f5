"""Calls from the console in a real browser: one click, a face whose lips move, a microphone that is heard."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.chromium import FAKE_DEVICES, chromium
from tests.support.credentials import API_TOKEN
from tests.support.house import House, orchestrator, tone
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("chromium")]
READY = "Boolean(document.querySelector('.big:not(:disabled)'))"


def console(house: House) -> str:
    """The console's URL, as make run prints it."""
    return f"{house.api.base_url}/#token={API_TOKEN}"


async def test_one_click_and_the_face_is_there() -> None:
    async with inference_server() as server, orchestrator([server]) as house:  # noqa: SIM117
        async with chromium(console(house), *FAKE_DEVICES, ready=READY) as tab:
            await tab.run("document.querySelector('.big').click()")
            await tab.until("window.visavis.call?.state === 'live'")
            await tab.until("window.visavis.call.marks.picture")
            print(json.dumps(await tab.run("window.visavis.call.marks")))
            await asyncio.sleep(2)
            call = await house.call_id()
            print(await house.call(call))
            turn = await house.play(call, [(0.0, tone(1.0))])
            print(await house.turn(call, turn))
            await tab.run("document.querySelector('.bar .stop').click()")
            await asyncio.sleep(0.5)
            print((await house.api.get("/v1/records")).json())
