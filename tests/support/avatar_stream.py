"""A caller of the library's avatar stream, against servers in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from tests.support.fake_server import FPS, FakeServer, avatar, body_sha256
from visavis.client import wire
from visavis.client.messages import Event
from visavis.client.model import AvatarSource
from visavis.client.pool import ServerPool
from visavis.client.stream import AvatarStream
from visavis.frames import Frame, frame_at, frame_start

SECOND = b"\1\0" * 16000
SOURCE = AvatarSource(b"image of anna", 64, 48)
AVATAR = wire.avatar_from(avatar())
E = TypeVar("E", bound=Event)


class Caller:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.news = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.news.set()

    def of(self, kind: type[E]) -> list[E]:
        return [e for e in self.events if isinstance(e, kind)]

    def frames(self, turn: int = 1) -> list[int]:
        """Which frames of a turn have come, in order."""
        return [frame_at(f.sample, FPS) for f in self.of(Frame) if f.turn_id == turn]

    async def until(self, what: Callable[[], object], seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while not what():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def conversation(
    *servers: FakeServer, body: bytes | None = None, source: AvatarSource | None = None, up: bool = True
) -> AsyncIterator[tuple[Caller, AvatarStream, ServerPool]]:
    """``up``: the servers run, and are found before the conversation begins."""
    caller = Caller()
    async with ServerPool([s.address for s in servers]) as pool:
        if up:
            async with asyncio.timeout(15):
                while not all(server.capacity for server in pool.placement.servers.values()):
                    await pool.wait_change(1.0)
        sha = body_sha256() if body is None else body
        stream = pool.open(AVATAR, source=source, session_id="s", body_sha256=sha, on_event=caller)
        try:
            yield caller, stream, pool
        finally:
            await stream.close()


async def play(caller: Caller, stream: AvatarStream, frames: range) -> None:
    """Hear the turn up to each frame in turn, when the frame after it is there.

    A machine that is slow to bring one is told the time again and again, as by a real clock.
    """
    for k in frames:
        for more in reversed(range(15)):
            stream.playhead(frame_start(k, FPS))
            try:
                await caller.until(lambda k=k: k in caller.frames(), 1.0)  # type: ignore[misc]
                break
            except TimeoutError:
                if not more:
                    raise


def begin(stream: AvatarStream, seconds: int = 4, turn: int = 1, epoch: int = 1, index: int = 5) -> None:
    stream.start_turn(turn, epoch)
    stream.anchor(0, index)
    stream.playhead(0)
    stream.push_audio(SECOND * seconds)
    stream.end_turn()
