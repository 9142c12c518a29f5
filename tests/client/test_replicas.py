"""An avatar that a server does not know gets there."""

from __future__ import annotations

import asyncio

from tests.support.avatar_stream import SOURCE, begin, conversation
from tests.support.fake_server import FakeServer, fake_server
from visavis.client.messages import (
    Connected,
    Disconnected,
)
from visavis.frames import Frame


async def test_an_unknown_avatar_is_prepared_from_its_portrait() -> None:
    async with (
        fake_server(FakeServer(known=set())) as server,
        conversation(server, source=SOURCE) as (caller, stream, _),
    ):
        begin(stream)
        await caller.until(lambda: caller.of(Frame))
        assert server.prepares == 1


async def test_an_unknown_avatar_without_a_portrait_is_told_in_a_sentence() -> None:
    async with fake_server(FakeServer(known=set())) as server, conversation(server) as (caller, _, _pool):
        await caller.until(lambda: caller.of(Disconnected))
        assert "its portrait is not at hand" in caller.of(Disconnected)[0].reason


async def test_an_avatar_in_use_is_kept_prepared_on_two_servers() -> None:
    async with (
        fake_server() as one,
        fake_server(FakeServer(known=set())) as two,
        conversation(one, two, source=SOURCE) as (caller, _, _pool),
    ):
        await caller.until(lambda: caller.of(Connected))
        async with asyncio.timeout(10):
            while "anna" not in one.known & two.known:
                await asyncio.sleep(0.02)
        assert one.imports + two.imports == 1 and one.prepares + two.prepares == 0
