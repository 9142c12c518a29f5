"""The A/V offset: how far pictures are behind the feeding of their audio. Sans-IO."""

from __future__ import annotations

from visavis.frames import Frame, frame_at
from visavis.playout.playout import Playout

_MOST_S = 0.6
_LATE_TICKS = 8


class AVOffset:
    """The offset in ``ticks``: from ``delay_s`` on, at most 0.6 s more.

    It grows where every frame of a turn comes too late.
    """

    def __init__(self, playout: Playout, delay_s: float) -> None:
        self.ticks = round(delay_s * playout.fps)
        self._most = self.ticks + round(_MOST_S * playout.fps)
        self._stats = playout.stats
        self._fps = playout.fps
        self._late = 0  # ticks in a row
        self._late_before = 0
        self._dropped_before = 0
        self._newest = -1  # frame of the turn that has come

    def use(self, playout: Playout) -> None:
        """Frames are those of another playout, of the same rate."""
        self._stats = playout.stats
        self._late_before, self._dropped_before = self._stats.late, self._stats.dropped

    def begin_turn(self) -> None:
        """Frames are those of a new turn."""
        self._newest = -1
        self._late = 0

    def anchored(self) -> None:
        """The turn was put elsewhere: what was late before is no sign any more."""
        self._late = 0

    def on_frame(self, frame: Frame) -> None:
        """A frame of the turn has come, in time or not."""
        self._newest = max(self._newest, frame_at(frame.sample, self._fps))

    def observe(self, sample: int, may_grow: bool) -> int:
        """After the tick of ``sample``: how many ticks more pictures are behind from now on."""
        dropped, self._dropped_before = self._stats.dropped > self._dropped_before, self._stats.dropped
        self._late = self._late + 1 if self._stats.late > self._late_before else 0
        self._late_before = self._stats.late
        if not may_grow or self._late < _LATE_TICKS or not dropped or self._newest < 0:
            return 0
        behind = frame_at(sample, self._fps) - self._newest + 1
        behind = max(0, min(behind, self._most - self.ticks))
        self.ticks += behind
        return behind
