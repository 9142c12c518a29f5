"""How much of something may come: so many a second, and some more at once."""

from __future__ import annotations


class TokenBucket:
    """``rate`` a second on average, ``burst`` at once; ``now`` is any clock's seconds."""

    __slots__ = ("_burst", "_rate", "_room", "_seen")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate, burst
        self._room, self._seen = burst, now

    def take(self, now: float) -> bool:
        """Whether one more may come; counts it."""
        self._room = min(self._burst, self._room + (now - self._seen) * self._rate)
        self._seen = now
        if self._room < 1:
            return False
        self._room -= 1
        return True
