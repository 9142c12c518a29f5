"""A circuit breaker: a service of others that has failed is left alone for a while, each time for longer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from visavis.service.supervisor import BackOff

REST_S = (5.0, 120.0, 0.0)
"""After the first fault, at most, and how long it has to work before the next fault is a first one again."""


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A service of others: what it does for us, whether it is asked now, its faults so far and the last one's
    sentence ("" once it has answered again)."""

    part: Literal["stt", "tts", "assistant"]
    name: str
    state: Literal["unused", "works", "rests"]
    faults: int = 0
    reason: str = ""


class CircuitBreaker:
    """Of one service; ``clock`` gives monotonic seconds."""

    def __init__(
        self,
        part: Literal["stt", "tts", "assistant"],
        name: str,
        clock: Callable[[], float] = time.monotonic,
        on_change: Callable[[ServiceState], None] = lambda state: None,
    ) -> None:
        self._part, self._name = part, name
        self._clock, self._on_change = clock, on_change
        self._back_off = BackOff(*REST_S)
        self._state: Literal["unused", "works", "rests"] = "unused"
        self._until = 0.0
        self._faults = 0
        self._reason = ""

    @property
    def usable(self) -> bool:
        """Whether to ask it now; once its rest is over the next one to ask finds out."""
        return self._state != "rests" or self._clock() >= self._until

    @property
    def state(self) -> ServiceState:
        """As it is told."""
        return ServiceState(self._part, self._name, self._state, self._faults, self._reason)

    def good(self) -> None:
        """It has answered."""
        if self._state != "works":
            self._state, self._reason, self._back_off = "works", "", BackOff(*REST_S)
            self._on_change(self.state)

    def fault(self, reason: str) -> None:
        """It has not: one sentence."""
        # Those that were under way when it failed are the same fault, and make its rest no longer.
        if self.usable:
            self._until = self._clock() + self._back_off.pause(0.0)
        self._state, self._reason = "rests", reason
        self._faults += 1
        self._on_change(self.state)
