"""One that follows something of a call, as it comes, for as long as the call lasts."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Self, TypeVar

T = TypeVar("T")


class Follower(Generic[T]):
    """``async with`` it, and iterate until the call has ended. ``close`` is told when it leaves."""

    def __init__(self, close: Callable[[Any], None]) -> None:
        self._close = close
        self._kept: deque[T] = deque()
        self._news = asyncio.Event()
        self._ended = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._close(self)
        self.end()

    async def __aiter__(self) -> AsyncIterator[T]:
        while True:
            while self._kept:
                yield self._kept.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()

    def keep(self, item: T) -> None:
        """Something to be handed out next."""
        self._kept.append(item)
        self._news.set()

    def end(self) -> None:
        """Nothing more comes."""
        self._ended = True
        self._news.set()
