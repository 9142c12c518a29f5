"""The mouth's transitions: it comes, is held over a gap, and goes softly. Sans-IO."""

from __future__ import annotations

from fractions import Fraction

from visavis.frames import Frame
from visavis.playout.picture import Picture, PlayoutStats


class Mouth:
    """The state of one playout's mouth.

    ``hold_s``: how long a missing frame is bridged by the last picture; ``fade_frames``: how long the mouth
    takes to fade away after that, and to come back.
    """

    def __init__(self, fps: Fraction, hold_s: float, fade_frames: int, stats: PlayoutStats) -> None:
        self._fps = fps
        self._hold_ticks = max(1, round(hold_s * fps))
        self._gone = fade_frames + 1  # the level at which there is no mouth; at level 0 it is whole
        self._stats = stats
        self._level = 0
        self._missing = 0  # ticks in a row
        self._open = False  # the last picture had a mouth that a body frame would make jump

    @property
    def given_up(self) -> bool:
        """Frames have been missing for as long as pictures are held."""
        return self._missing >= self._hold_ticks

    def shut(self) -> None:
        """At once: the next picture is the body."""
        self._level, self._open = 0, False

    def show(self, frame: Frame, index: int) -> Picture:
        """A frame of the turn at its own tick, over body frame ``index``."""
        self._stats.shown += 1
        self._missing = 0
        pasted = frame if frame.pixels is not None else None
        if frame.kind == "body":
            if 0 < self._level < self._gone and self._open:
                return self._fade_out(index)
            self.shut()
            return Picture(index, pasted)
        self._level = max(0, self._level - 1)
        self._open = True
        return Picture(index, pasted, fade=self._level / self._gone or None)

    def miss(self, index: int) -> Picture:
        """The due frame is not there: hold, after a while let the mouth fade into the moving body."""
        self._missing += 1
        if not self._open:
            if self._missing > self._hold_ticks:
                self._level = self._gone
            return Picture(index)
        if self._missing <= self._hold_ticks and self._level == 0:
            self._stats.held += 1
            self._stats.freeze_s = float(self._stats.held / self._fps)
            return Picture(index, hold=True)
        if self._level == 0:
            self._stats.starved += 1
        return self._fade_out(index)

    def rest(self, index: int, between_turns: bool) -> Picture:
        """Nothing to wait for: the body, after a soft end of whatever mouth is still open."""
        self._missing = 0
        if self._open:
            return self._fade_out(index)
        if between_turns:
            self._level = 0
        return Picture(index)

    def _fade_out(self, index: int) -> Picture:
        self._level += 1
        if self._level >= self._gone:
            self._level, self._open = self._gone, False
            return Picture(index)
        return Picture(index, fade=1 - self._level / self._gone)
