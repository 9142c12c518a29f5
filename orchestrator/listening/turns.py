"""Whose sound is recognised next."""

from __future__ import annotations

import asyncio
import contextlib
import heapq
import itertools
from collections.abc import AsyncIterator


class ShortestFirst:
    """Lets one in at a time, and of those who wait the one with the shortest sound next: whoever speaks without end
    keeps nobody else waiting for more than one recognition. Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._numbers = itertools.count()
        self._taken = False

    @contextlib.asynccontextmanager
    async def turn(self, samples: int) -> AsyncIterator[None]:
        """Wait for it; it lasts as long as the context."""
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._waiting, (samples, next(self._numbers), mine))
        self._let_in()
        try:
            await mine
            yield
        finally:
            if mine.done() and not mine.cancelled():
                self._taken = False
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and not self._taken:
            *_, first = heapq.heappop(self._waiting)
            if not first.done():
                first.set_result(None)
                self._taken = True
