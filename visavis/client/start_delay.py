"""The start delay: how far ahead a turn is started, from what first frames usually take."""

from __future__ import annotations

import math
from collections import deque
from fractions import Fraction


class StartDelay:
    """Rolling 95th percentile of first-frame latency plus one frame, at most ``limit_s``.

    ``initial_s`` stands for the latency until the first one is seen. Latency is seconds from a turn's first
    audio to its first frame.
    """

    def __init__(
        self, fps: Fraction, *, limit_s: float = 0.3, initial_s: float = 0.15, window: int = 40
    ) -> None:
        self._frame_s = float(1 / fps)
        self._limit_s = limit_s
        self._initial_s = initial_s
        self._seen: deque[float] = deque(maxlen=window)

    def observe(self, latency_s: float) -> None:
        """A turn's first frame came ``latency_s`` after its first audio."""
        if latency_s >= 0:
            self._seen.append(latency_s)

    @property
    def p95_s(self) -> float:
        """The 95th percentile (nearest rank) of what was seen."""
        if not self._seen:
            return self._initial_s
        return sorted(self._seen)[math.ceil(0.95 * len(self._seen)) - 1]

    @property
    def seconds(self) -> float:
        """Delay from a turn's first audio to the moment it is heard."""
        return min(self._limit_s, self.p95_s + self._frame_s)

    @property
    def ticks(self) -> int:
        """The same in whole video ticks, not beyond the limit."""
        return max(1, min(math.ceil(self.seconds / self._frame_s), int(self._limit_s / self._frame_s)))
