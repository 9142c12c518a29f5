"""Audio that came long before it is heard: it waits here, so that nobody's makes the engine hear it first."""

from __future__ import annotations

from collections import deque

from inference_server.errors import RequestError
from visavis.frames import SAMPLE_RATE

AHEAD = 5 * SAMPLE_RATE
"""Samples past what is heard that the engine is given."""


class AheadBudget:
    """Bytes of audio that may wait in all streams together; one stream may always have its share of them."""

    def __init__(self, total: int, share: int) -> None:
        self._total = total
        self._share = share
        self.used = 0

    def take(self, size: int, held: int) -> None:
        """For a stream that has ``held`` bytes already. Raises :class:`RequestError`."""
        if self.used + size > self._total and held + size > self._share:
            raise RequestError(
                "resource_exhausted",
                f"Audio: {held + size} bytes of this stream wait to be heard, and the server has no more room "
                "for them: send audio no earlier than it is spoken.",
            )
        self.used += size

    def give(self, size: int) -> None:
        """So much has gone to the engine, or is let go."""
        self.used -= size


class AheadAudio:
    """What waits of one turn."""

    def __init__(self, budget: AheadBudget | None) -> None:
        self._budget = budget
        self._waiting: deque[bytes] = deque()
        self.held = 0
        self._given: int | None = None  # the first sample that the engine has not got

    def push(self, first: int, pcm: bytes) -> None:
        """Whole samples, the next ones. Raises :class:`RequestError` where too many wait."""
        if self._given is None:
            self._given = first
        if self._budget is not None:
            self._budget.take(len(pcm), self.held)
        self._waiting.append(pcm)
        self.held += len(pcm)

    def due(self, end: int) -> bytes:
        """What comes before sample ``end``, b"" where that is nothing."""
        size = min(2 * (end - (self._given or 0)), self.held) if self._given is not None else 0
        if size <= 0:
            return b""
        parts, left = [], size
        while left:
            part = self._waiting.popleft()
            if len(part) > left:
                self._waiting.appendleft(part[left:])
                part = part[:left]
            parts.append(part)
            left -= len(part)
        self._let_go(size)
        assert self._given is not None
        self._given += size // 2
        return b"".join(parts)

    def clear(self) -> None:
        """The turn is over."""
        self._waiting.clear()
        self._let_go(self.held)

    def _let_go(self, size: int) -> None:
        self.held -= size
        if self._budget is not None:
            self._budget.give(size)
