"""The start delay: how far ahead a turn is started, from what first frames usually take."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection
from fractions import Fraction

AS_SPOKEN_S = 0.12
"""Sound that is not so far ahead of real time comes as it is spoken: what an engine hears beyond a frame is waited
for."""


class StartDelay:
    """Rolling 95th percentile of first-frame latency plus one frame, at most ``limit_s``.

    What was seen is kept for either kind of turn: those whose sound is there at once, and those whose sound comes
    as it is spoken. ``initial_s`` stands for the latency until the first one is seen. Latency is seconds from a
    turn's first audio to its first frame.
    """

    def __init__(
        self, fps: Fraction, *, limit_s: float = 0.3, initial_s: float = 0.15, window: int = 40
    ) -> None:
        self._frame_s = float(1 / fps)
        self._limit_s = limit_s
        self._initial_s = initial_s
        self._seen: deque[float] = deque(maxlen=window)
        self._seen_as_spoken: deque[float] = deque(maxlen=window)

    def observe(self, latency_s: float, ahead_s: float = math.inf) -> None:
        """A turn's first frame came ``latency_s`` after its first audio; by then its sound was ``ahead_s`` ahead of
        real time, infinitely where all of it was there."""
        if latency_s >= 0:
            (self._seen_as_spoken if ahead_s < AS_SPOKEN_S else self._seen).append(latency_s)

    @property
    def p95_s(self) -> float:
        """The 95th percentile (nearest rank) of what was seen of either kind."""
        return self._p95([*self._seen, *self._seen_as_spoken])

    @property
    def seconds(self) -> float:
        """Delay from a turn's first audio to the moment it is heard, where its sound is ahead."""
        return self._bounded(self._seen)

    @property
    def ticks(self) -> int:
        """The same in whole video ticks, not beyond the limit."""
        return self._whole(self.seconds)

    @property
    def ticks_as_spoken(self) -> int:
        """The same where the sound comes as it is spoken, and never less."""
        return max(self.ticks, self._whole(self._bounded(self._seen_as_spoken)))

    def _p95(self, seen: Collection[float]) -> float:
        return sorted(seen)[math.ceil(0.95 * len(seen)) - 1] if seen else self._initial_s

    def _bounded(self, seen: Collection[float]) -> float:
        return min(self._limit_s, self._p95(seen) + self._frame_s)

    def _whole(self, seconds: float) -> int:
        return max(1, min(math.ceil(seconds / self._frame_s), int(self._limit_s / self._frame_s)))
