"""Events of a call as listeners get them: server-sent, and posted to a webhook."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from testing.caller import Phone
from tests.support.house import orchestrator, tone
from tests.support.servers import inference_server

pytestmark = pytest.mark.process

KINDS = ["answered", "avatar", "turn_started", "turn_finished", "ended"]


class Webhook:
    """A bare HTTP server that keeps the JSON objects posted to it."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = int(head.split("content-length:")[1].split("\r\n")[0])
                self.events.append(json.loads(await reader.readexactly(size)))
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        except asyncio.IncompleteReadError:
            writer.close()


async def test_every_listener_hears_the_call() -> None:
    hook = Webhook()
    listener = await asyncio.start_server(hook.accept, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/calls"
    heard: list[dict[str, Any]] = []
    async with listener, inference_server() as server, orchestrator([server], webhook=url) as house:

        async def listen() -> None:
            async with house.api.stream("GET", "/v1/events") as stream:
                async for line in stream.aiter_lines():
                    if line.startswith("data: "):
                        heard.append(json.loads(line.removeprefix("data: ")))
                        if heard[-1]["event"] == "ended":
                            return

        task = asyncio.create_task(listen())
        await asyncio.sleep(0.5)
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            turn = await house.play(call, [(0.0, tone(0.6))])
            await house.turn(call, turn)
            assert not phone.hung_up.is_set()
        await asyncio.wait_for(task, 20)
        async with asyncio.timeout(20):
            while not any(event["event"] == "ended" for event in hook.events):
                await asyncio.sleep(0.05)
    for events in (heard, hook.events):
        kinds = [event["event"] for event in events]
        assert [kind for kind in KINDS if kind in kinds] == KINDS
        finished = next(event for event in events if event["event"] == "turn_finished")
        assert (finished["call_id"], finished["heard_ms"]) == (call, 600.0)
        assert events[-1]["cause"] == "bye by peer"
