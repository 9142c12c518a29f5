"""A conversation whose server leaves the DNS name while it is being opened, as where a network is cut."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.avatar_stream import Caller
from tests.support.fake_server import FakeServer, avatar, body_sha256, fake_server
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client import stream as stream_module
from visavis.client import wire
from visavis.client.messages import Connected
from visavis.client.pool import ServerPool


class Silent(FakeServer):
    """Takes a conversation and never answers."""

    asked = 0

    async def Converse(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.ConverseResponse]:
        self.asked += 1
        await asyncio.sleep(3600)
        yield pb.ConverseResponse()


async def test_a_server_that_leaves_the_name_while_it_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "_OPEN_S", 60.0)
    silent, caller = Silent(), Caller()
    async with fake_server(silent), fake_server() as server:
        listed = [silent.address]

        async def resolve(target: str, known: object) -> list[str]:
            return listed

        async with ServerPool("dns:///inference:50051", resolver=resolve) as pool:
            stream = pool.open(wire.avatar_from(avatar()), body_sha256=body_sha256(), on_event=caller)
            async with asyncio.timeout(15):
                while not silent.asked:
                    await asyncio.sleep(0.01)
            listed[:] = []
            await pool._discovery.look()
            listed[:] = [server.address]
            await pool._discovery.look()
            await caller.until(lambda: caller.of(Connected))
            assert stream.address == server.address
            await stream.close()
