"""Timers (RFC 3261 table 4), the clock they run on, and responses that are repeated until they are confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

# Seconds.
T1 = 0.5
T2 = 4.0
T4 = 5.0
TIMER_B = 64 * T1
TIMER_D = 32.0
PATIENCE_SECONDS = 6.0
"""How long a server may say nothing at all where there is another to ask: a fifth of Timer B."""


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """The one source of time and timers, so that protocol tests run on a clock of their own."""

    def now(self) -> float:
        """Seconds, monotonic."""

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


class Repeater:
    """A response that goes out again until the peer confirms it: 2xx to INVITE, and 1xx with 100rel.

    Calls `send` after T1, doubling up to `ceiling`, and `timeout` once after 64 T1; until `acknowledged`."""

    def __init__(
        self, clock: Clock, send: Callable[[], None], timeout: Callable[[], None], *, ceiling: float = T2
    ) -> None:
        self.done = False
        self._clock = clock
        self._send = send
        self._ceiling = ceiling
        self._end = clock.call_later(64 * T1, lambda: self._expire(timeout))
        self._timer: Timer = clock.call_later(T1, lambda: self._again(T1))

    def acknowledged(self) -> None:
        self.done = True
        self._timer.cancel()
        self._end.cancel()

    def _again(self, interval: float) -> None:
        self._send()
        interval = min(2 * interval, self._ceiling)
        self._timer = self._clock.call_later(interval, lambda: self._again(interval))

    def _expire(self, timeout: Callable[[], None]) -> None:
        self.acknowledged()
        timeout()


class PendingAck(Repeater):
    """A 2xx to an INVITE or re-INVITE on its way (RFC 3261 section 13.3.1.4)."""

    def __init__(
        self, clock: Clock, send: Callable[[], None], timeout: Callable[[], None], *, is_reinvite: bool
    ) -> None:
        super().__init__(clock, send, timeout)
        self.is_reinvite = is_reinvite
