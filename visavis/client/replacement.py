"""The replacement of an avatar's body, where servers of another version make another one of the same portrait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from visavis.client.model import Avatar
from visavis.service.unhandled import logged

AGAIN_S = 20.0
"""Not more often, where a conversation comes to servers of two versions by turns."""


class ReplacementPace:
    """Lets a conversation's first replacement pass at once, and each other one a while after the one before."""

    def __init__(self) -> None:
        self._after = 0.0

    async def wait(self) -> None:
        """Until the body may be replaced, which it then is."""
        clock = asyncio.get_running_loop()
        await asyncio.sleep(self._after - clock.time())
        self._after = clock.time() + AGAIN_S


class Replacement:
    """Has ``fetch`` called with what :class:`visavis.AvatarReplaced` named, one at a time: at once, or in a while
    where the last one was fetched just now. Belongs to one event loop."""

    def __init__(self, fetch: Callable[[Avatar], Awaitable[None]]) -> None:
        self._fetch = fetch
        self._pace = ReplacementPace()
        self._task: asyncio.Task[None] | None = None
        self._retired: set[asyncio.Task[None]] = set()
        self._closed = False

    def begin(self, avatar: Avatar) -> None:
        """Without effect while another one is under way, and after :meth:`close`."""
        if not self._closed and (self._task is None or self._task.done()):
            self._task = logged(asyncio.create_task(self._run(avatar)), "another body")

    async def _run(self, avatar: Avatar) -> None:
        await self._pace.wait()
        await self._fetch(avatar)

    def retire(self, closing: Coroutine[Any, Any, None]) -> None:
        """Have the stream of a body that is shown no more closed meanwhile."""
        task = logged(asyncio.create_task(closing), "avatar stream")
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)

    async def close(self) -> None:
        """The conversation has ended; what was retired is closed then."""
        self._closed = True
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await asyncio.gather(*self._retired, return_exceptions=True)
