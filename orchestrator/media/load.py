"""How near a worker is to its limit, and what it gives up first: pictures, never audio."""

from __future__ import annotations

from dataclasses import dataclass

BUSY_ENCODERS = 0.75
BUSY_CLOCK_SECONDS = 0.02
"""Voice later than a packet's own length is what the shortest jitter buffers do not bear."""
SLOW_SECONDS = 3
_WORST = 4


@dataclass(slots=True)
class Load:
    """Judged once a second. ``overloaded``: refuse new calls; ``divider``: every n-th live picture is coded."""

    encoders: float = 0.0
    lateness_p99: float = 0.0
    divider: int = 1
    overloaded: bool = False
    _calm: int = 0
    _starved: int = 0
    _slow: int = 0

    def judge(self, encoders: float, replaced: int, encoded: int, lateness_p99: float) -> None:
        """``encoders``: share of their time that the encoder threads worked; pictures replaced and encoded."""
        self.encoders, self.lateness_p99 = encoders, lateness_p99
        # A picture replaced now and then is the queue at work; a tenth of them is a machine too small.
        starving = replaced > 2 and replaced > encoded / 10
        self._starved = self._starved + 1 if starving else 0
        if self._starved > 1:
            self.divider, self._calm = min(self.divider * 2, _WORST), 0
        elif encoders * 2 < BUSY_ENCODERS and self.divider > 1:
            self._calm += 1
            if self._calm >= 5:
                self.divider, self._calm = self.divider // 2, 0
        # One late second is a hiccup of the host; with one call it takes a single packet.
        self._slow = self._slow + 1 if lateness_p99 > BUSY_CLOCK_SECONDS else 0
        self.overloaded = (
            starving or self.divider > 1 or encoders > BUSY_ENCODERS or self._slow >= SLOW_SECONDS
        )

    def thin(self, number: int) -> bool:
        """Whether live picture ``number`` is left out to spare the encoders."""
        return self.divider > 1 and number % self.divider != 0
