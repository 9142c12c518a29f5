"""The one source of time and timers, so that protocol tests run on a clock of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    def now(self) -> float:
        """Seconds, monotonic."""
        ...

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer: ...


class LoopClock:
    """The running asyncio loop's clock."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def now(self) -> float:
        return self._loop.time()

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:
        return self._loop.call_later(delay, callback)


async def pause(clock: Clock, seconds: float) -> None:
    """Sleep on that clock."""
    wake = asyncio.Event()
    timer = clock.call_later(seconds, wake.set)
    try:
        await wake.wait()
    finally:
        timer.cancel()
