"""The avatars of one media worker: prepared once on whichever server can, their bodies held and shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from orchestrator.avatar.source import PortraitFile
from orchestrator.avatar.still_process import still_body
from orchestrator.media.sources import StillBody
from visavis.client.body_cache import Body, BodyCache
from visavis.client.credentials import ServerCredentials
from visavis.client.events import OnEvent
from visavis.client.model import Avatar, AvatarSource
from visavis.client.pool import Resolver, ServerPool
from visavis.client.start_delay import StartDelay
from visavis.client.stream import AvatarStream
from visavis.errors import InvalidRequest
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log(__name__)

MAX_AVATARS = 64
"""Avatars remembered at once; the least recently used one is prepared anew when it is wanted again."""
_PREPARING = "the avatar is being prepared"


@dataclass(frozen=True)
class ReadyAvatar:
    """A prepared avatar with its body, ready to speak."""

    portrait: PortraitFile
    avatar: Avatar
    source: AvatarSource
    body: Body


OnState = Callable[[PortraitFile, str, str, str], None]
"""Called with the portrait, the digest of its source ("" before it is read), ``preparing | ready | failed |
waiting`` and one sentence."""


class WorkerAvatars:
    """The avatars that one media worker's calls speak with. Belongs to one event loop."""

    def __init__(
        self,
        servers: Sequence[str],
        cache: Path,
        cache_bytes: int,
        on_state: OnState,
        resolver: Resolver | None = None,
        credentials: ServerCredentials | None = None,
    ) -> None:
        self._pool = ServerPool(servers, resolver=resolver, credentials=credentials)
        self._bodies = BodyCache(cache / "bodies", cache_bytes)
        self._on_state = on_state
        self._avatars: dict[PortraitFile, asyncio.Task[ReadyAvatar]] = {}
        self._sources: dict[PortraitFile, asyncio.Task[AvatarSource]] = {}  # until the avatar is ready
        self._stills: dict[PortraitFile, asyncio.Task[StillBody]] = {}  # until the avatar is ready
        self._delays: dict[Fraction, StartDelay] = {}  # a new call starts from what the others have seen

    async def start(self) -> None:
        """Find the servers; does not wait for one."""
        await self._pool.start()

    async def close(self) -> None:
        """Let go of every server and body."""
        tasks = [*self._avatars.values(), *self._stills.values(), *self._sources.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._avatars.clear()
        self._stills.clear()
        self._sources.clear()
        await self._pool.close()

    def avatar(self, portrait: PortraitFile) -> asyncio.Task[ReadyAvatar]:
        """The avatar made of a portrait: a task that retries until it is ready, or the portrait is refused."""
        task = self._avatars.pop(portrait, None)
        if task is None or _failed(task):
            self.still(portrait)
            task = self._begin(portrait, None)
        self._keep(portrait, task)
        return task

    def prepared(
        self, portrait: PortraitFile, avatar: Avatar, source: AvatarSource | None = None
    ) -> asyncio.Task[ReadyAvatar]:
        """What the control process had prepared of a portrait, or another server has: its body is fetched.

        ``source`` is what the file was, which may be another one by now or gone.
        """
        task = self._avatars.pop(portrait, None)
        if task is None or _failed(task) or (task.done() and task.result().avatar != avatar):
            task = self._begin(portrait, avatar, source)
        self._keep(portrait, task)
        return task

    def still(self, portrait: PortraitFile) -> asyncio.Task[StillBody]:
        """The portrait as a still picture, for calls whose avatar is not ready."""
        task = self._stills.get(portrait)
        if task is None:
            task = self._stills[portrait] = logged(
                asyncio.create_task(self._still(portrait)), "still portrait"
            )
        return task

    def converse(self, ready: ReadyAvatar, session_id: str, on_event: OnEvent) -> AvatarStream:
        """One conversation with a ready avatar."""
        stream = self._pool.open(
            ready.avatar,
            source=ready.source,
            session_id=session_id,
            body_sha256=ready.body.sha256,
            follows_path=True,
            on_event=on_event,
        )
        stream.start_delay = self._delays.setdefault(ready.avatar.fps, stream.start_delay)
        if len(self._delays) > MAX_AVATARS:
            self._delays.pop(next(iter(self._delays)))
        return stream

    # -- inside --

    def _keep(self, portrait: PortraitFile, task: asyncio.Task[ReadyAvatar]) -> None:
        self._avatars[portrait] = task
        while len(self._avatars) > MAX_AVATARS:
            oldest = next(iter(self._avatars))
            dropped = self._avatars.pop(oldest)
            if dropped.done() and not _failed(dropped):
                self._pool.forget(dropped.result().avatar)
            self._stills.pop(oldest, None)
            self._sources.pop(oldest, None)

    def _begin(
        self, portrait: PortraitFile, avatar: Avatar | None, source: AvatarSource | None = None
    ) -> asyncio.Task[ReadyAvatar]:
        task = asyncio.create_task(self._prepare(portrait, avatar, source))
        task.add_done_callback(_seen)
        return task

    async def _source(self, portrait: PortraitFile) -> AvatarSource:
        task = self._sources.get(portrait)
        if task is None:
            task = self._sources[portrait] = asyncio.create_task(portrait.read())
            task.add_done_callback(_seen)
        return await asyncio.shield(task)

    async def _still(self, portrait: PortraitFile) -> StillBody:
        source = await self._source(portrait)
        return await asyncio.to_thread(still_body, source.image, source.width, source.height)

    async def _prepare(
        self, portrait: PortraitFile, avatar: Avatar | None, source: AvatarSource | None
    ) -> ReadyAvatar:
        source = source or await self._source(portrait)

        def tell(state: str, reason: str) -> None:
            self._on_state(portrait, source.digest, state, reason)

        def on_wait(reason: str) -> None:
            if reason:
                log.warning("avatar_not_prepared", reason=reason)
            tell("waiting" if reason else "preparing", reason or _PREPARING)

        tell("preparing", _PREPARING)
        try:
            avatar, body = await self._pool.ready(source, self._bodies, avatar=avatar, on_wait=on_wait)
        except InvalidRequest as error:
            tell("failed", str(error))
            raise
        self._stills.pop(portrait, None)
        self._sources.pop(portrait, None)
        tell("ready", "")
        return ReadyAvatar(portrait, avatar, source, body)


def _failed(task: asyncio.Task[Any]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _seen(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()
