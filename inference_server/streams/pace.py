"""What a stream may have drawn: as many frames as are shown, and no more where others wait."""

from __future__ import annotations

from fractions import Fraction

HASTE = 1.5
"""Frames a second over those that are shown, for what is drawn anew."""


class Pace:
    """Frames that a stream is entitled to, whatever its client says about its playhead.

    What is beyond them is drawn while nobody else has anything to draw.
    """

    def __init__(self, fps: Fraction, burst: int, now: float) -> None:
        self._rate = HASTE * float(fps)
        self._burst = float(burst)
        self._frames = self._burst
        self._at = now

    def entitled(self, now: float) -> bool:
        """Whether its next frame is one that it is entitled to."""
        self._refill(now)
        return self._frames >= 1

    def spend(self, now: float) -> None:
        """A frame is drawn."""
        self._refill(now)
        self._frames = max(0.0, self._frames - 1)

    def _refill(self, now: float) -> None:
        if now > self._at:
            self._frames = min(self._burst, self._frames + self._rate * (now - self._at))
            self._at = now
