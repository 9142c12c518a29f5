"""Conversations of one pool beside each other, against servers in this process."""

from __future__ import annotations

import asyncio
import contextlib

from tests.support.avatar_stream import Caller, begin, play
from tests.support.fake_server import FakeServer, avatar, body_sha256, fake_server
from visavis.client import wire
from visavis.client.messages import Connected, Disconnected, TurnFinished
from visavis.client.pool import ServerPool

AVATAR = wire.avatar_from(avatar())


async def test_the_next_turn_is_spoken_on_a_server_that_has_come() -> None:
    """Four conversations on the only server; another comes, gets the avatar, and half of them, between turns."""
    async with fake_server() as old, fake_server(FakeServer(known=set())) as new:
        listed = [old.address]

        async def names(target: str, known: object) -> list[str]:
            return listed

        async with ServerPool("dns:///inference:50051", resolver=names) as pool:
            callers = [Caller() for _ in range(4)]
            streams = [pool.open(AVATAR, body_sha256=body_sha256(), on_event=c) for c in callers]
            for caller in callers:
                await caller.until(lambda caller=caller: caller.of(Connected))  # type: ignore[misc]
            listed.append(new.address)
            await pool._discovery.look()
            async with asyncio.timeout(15):
                while not pool.placement.servers[new.address].holds("anna"):
                    await asyncio.sleep(0.02)
            for turn in range(1, 40):
                for caller, stream in zip(callers, streams, strict=True):
                    before = stream.address
                    begin(stream, seconds=1, turn=turn, epoch=turn)
                    await caller.until(lambda caller=caller, turn=turn: caller.frames(turn))  # type: ignore[misc]
                    assert stream.address == before  # never in mid-turn
                    for k in range(0, 28, 9):
                        stream.playhead(k * 640)
                    await caller.until(
                        lambda caller=caller, turn=turn: len(caller.of(TurnFinished)) == turn  # type: ignore[misc]
                    )
                    await asyncio.sleep(0.02)
                if (old.sessions, new.sessions) == (2, 2):
                    break
            assert (old.sessions, new.sessions) == (2, 2)
            for caller in callers:
                assert not caller.of(Disconnected)
            for stream in streams:
                await stream.close()


async def test_a_turn_that_begins_while_its_conversation_moves_stays() -> None:
    """The other server is slow to open: the turn does not wait for it."""
    async with fake_server() as old, fake_server() as new:
        old.sessions = 5  # of others
        new.mute_open = True
        async with ServerPool([old.address, new.address]) as pool:
            caller = Caller()
            new.draining = True
            new.change()
            stream = pool.open(AVATAR, body_sha256=body_sha256(), on_event=caller)
            await caller.until(lambda: caller.of(Connected))
            new.draining = False
            new.change()
            async with asyncio.timeout(15):
                while pool.better(old.address, AVATAR) is None:
                    await asyncio.sleep(0.02)
            await asyncio.sleep(0.3)
            begin(stream, seconds=1)
            await play(caller, stream, range(28))
            await caller.until(lambda: caller.of(TurnFinished))
            begin(stream, seconds=1, turn=2, epoch=2)
            for k in range(28):
                stream.playhead(k * 640)
                await caller.until(lambda k=k: k in caller.frames(2))  # type: ignore[misc]
            assert stream.address == old.address and len(caller.of(Connected)) == 1
            with contextlib.suppress(Exception):
                await stream.close()
