"""Responses that are sent again until the peer confirms them: 2xx to INVITE, and 1xx with 100rel."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.sip.transaction.clock import Clock, Timer
from orchestrator.sip.transaction.timers import T1, T2


class Repeater:
    """Calls `send` after T1, doubling up to `ceiling`, and `timeout` once after 64 T1; until `acknowledged`."""

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
