"""The avatars of one media worker: prepared once on whichever server can, their bodies held and shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.avatar.still import still_body
from orchestrator.media.sources import StillBody
from visavis.body import Body, BodyCache
from visavis.delivery import OnEvent
from visavis.errors import InvalidRequest, VisavisError
from visavis.logs import Log
from visavis.model import Avatar, AvatarSource
from visavis.pool import Resolver, ServerPool
from visavis.startdelay import StartDelay
from visavis.stream import AvatarStream
from visavis.unhandled import logged

log = Log(__name__)

RETRY_S = 1.0
CAST = 64
"""Avatars remembered at once; the least recently used one is prepared anew when it is wanted again."""


@dataclass(frozen=True)
class LoopBody:
    """A prepared avatar's body as the media path takes it: ``(n, height * 3 // 2, width)`` uint8 I420."""

    body_id: str
    width: int
    height: int
    frames: NDArray[np.uint8]
    jumps: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Role:
    """An avatar that is ready to speak."""

    avatar: Avatar
    source: AvatarSource
    body: Body

    @property
    def loop(self) -> LoopBody:
        """The body for the media path."""
        body = self.body
        return LoopBody(body.sha256.hex()[:32], body.width, body.height, body.frames, body.jumps)


OnState = Callable[[str, str, str], None]
"""Called with the source's digest, ``preparing | ready | failed | waiting`` and one sentence."""


class Stage:
    """Belongs to one event loop."""

    def __init__(
        self,
        servers: Sequence[str],
        cache: Path,
        cache_bytes: int,
        on_state: OnState,
        resolver: Resolver | None = None,
    ) -> None:
        self._pool = ServerPool(servers, resolver=resolver)
        self._bodies = BodyCache(cache / "bodies", cache_bytes)
        self._on_state = on_state
        self._cast: dict[str, asyncio.Task[Role]] = {}
        self._stills: dict[str, asyncio.Task[StillBody]] = {}  # until the role is ready
        self._delays: dict[Fraction, StartDelay] = {}  # a new call starts from what the others have seen

    async def start(self) -> None:
        """Find the servers; does not wait for one."""
        await self._pool.start()

    async def close(self) -> None:
        """Let go of every server."""
        tasks = [*self._cast.values(), *self._stills.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._pool.close()

    @property
    def servers_usable(self) -> bool:
        """Some inference server can take a conversation now."""
        return self._pool.choose("") is not None

    def role(self, source: AvatarSource) -> asyncio.Task[Role]:
        """The avatar made of a portrait: a task that retries until it is ready, or the portrait is refused."""
        digest = source.digest
        task = self._cast.pop(digest, None)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            self.still(source)
            task = asyncio.create_task(self._prepare(source))
            task.add_done_callback(_seen)
        self._cast[digest] = task
        while len(self._cast) > CAST:
            oldest = next(iter(self._cast))
            self._cast.pop(oldest)
            self._stills.pop(oldest, None)
        return task

    def still(self, source: AvatarSource) -> asyncio.Task[StillBody]:
        """The portrait as a still picture, for calls whose avatar is not ready."""
        task = self._stills.get(source.digest)
        if task is None:
            making = asyncio.to_thread(still_body, source.image, source.width, source.height)
            task = self._stills[source.digest] = logged(asyncio.create_task(making), "still portrait")
        return task

    def converse(self, role: Role, session_id: str, on_event: OnEvent) -> AvatarStream:
        """One conversation with a ready avatar."""
        stream = self._pool.open(
            role.avatar,
            source=role.source,
            session_id=session_id,
            body_sha256=role.body.sha256,
            on_event=on_event,
        )
        stream.start_delay = self._delays.setdefault(role.avatar.fps, stream.start_delay)
        if len(self._delays) > CAST:
            self._delays.pop(next(iter(self._delays)))
        return stream

    async def _prepare(self, source: AvatarSource) -> Role:
        self._on_state(source.digest, "preparing", "the avatar is being prepared")
        told = ""
        while True:
            try:
                avatar = await self._pool.prepare(source)
                body = await self._pool.fetch_body(avatar, self._bodies)
            except InvalidRequest as error:
                self._on_state(source.digest, "failed", str(error))
                raise
            except VisavisError as error:
                if str(error) != told:
                    told = str(error)
                    self._on_state(source.digest, "waiting", told)
                    log.warning("avatar_not_prepared", reason=told)
                await asyncio.sleep(RETRY_S)
                continue
            self._stills.pop(source.digest, None)
            self._on_state(source.digest, "ready", "")
            return Role(avatar, source, body)


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
