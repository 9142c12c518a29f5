"""One turn on the video clock: its frames by position, and the body frame that each belongs to. Sans-IO.

Frame k of a turn covers the samples from ``frame_start(k)`` on. An anchor ties a sample, and with it a frame, to
the body frame that is on screen when it is heard; from there on both move by one a tick. Where the client follows
the server's path, a frame may say that the body goes on elsewhere: that is a step, which becomes an anchor when it
is due.
"""

from __future__ import annotations

from collections.abc import Set
from fractions import Fraction
from typing import NamedTuple

from visavis.frames import SAMPLE_RATE, Frame, frame_at, frame_start
from visavis.playout.picture import PlayoutStats, TurnAnchor


class _Anchor(NamedTuple):
    frame: int
    sample: int
    loop_index: int


class Timeline:
    """A turn whose sample 0 is heard at ``loop_index``; what has no place is counted in ``stats``.

    ``jumps``: (from, to) that the turn's frames may take.
    """

    def __init__(
        self,
        turn_id: int,
        epoch: int,
        loop_index: int,
        loop_length: int,
        fps: Fraction,
        stats: PlayoutStats,
        jumps: Set[tuple[int, int]] = frozenset(),
    ) -> None:
        self.turn_id = turn_id
        self.epoch = epoch
        self.frames: dict[int, Frame] = {}
        self.started = False
        self.end: int | None = None  # samples, once known
        self._anchors = [_Anchor(0, 0, loop_index)]  # ascending
        self._steps: dict[int, int] = {}  # frames to come before which the body goes elsewhere, and where to
        self._jumps = jumps
        self._still = frozenset(to for _, to in jumps)
        self._astray = False  # a frame came for a path that is not known here
        self._now = -1  # the frame due at the last tick of the turn
        self._loop_length = loop_length
        self._fps = fps
        self._stats = stats
        self._half = int(SAMPLE_RATE / fps / 2)
        self._most = max(8, round(4 * fps))  # frames kept; a server's window is a tenth of that

    @property
    def anchor(self) -> TurnAnchor:
        """The anchor set last."""
        _, sample, loop_index = self._anchors[-1]
        return TurnAnchor(self.turn_id, self.epoch, sample, loop_index)

    def set_anchor(self, sample: int, loop_index: int) -> TurnAnchor:
        """From ``sample`` on the body is elsewhere: frames for other body frames lose their place."""
        k = frame_at(sample, self._fps)
        self._steps.clear()
        self._astray = False
        self._anchors = [a for a in self._anchors if a.frame < k]
        self._anchors.append(_Anchor(k, sample, loop_index))
        self._now = min(self._now, k - 1)  # a frame cut in two by an underrun is due twice
        for j in [j for j, frame in self.frames.items() if frame.loop_index != self._loop_index(j)]:
            del self.frames[j]
            self._stats.misplaced += 1
        return self.anchor

    def put(self, frame: Frame) -> bool:
        """Take a frame of this turn; False where it has no place."""
        k = frame_at(frame.sample, self._fps)
        if k <= self._now:
            self._stats.dropped += 1
            return False
        if len(self.frames) >= self._most or not self._placed(k, frame.loop_index):
            self._stats.misplaced += 1
            return False
        self.frames[k] = frame
        return True

    def _placed(self, k: int, loop_index: int) -> bool:
        """Frame ``k`` lies on that body frame; where the path may go there, it does from now on."""
        if loop_index == self._loop_index(k):
            return True
        if not self._jumps:
            return False
        before = self._loop_index(k - 1)
        if k in self._steps and loop_index == (before + 1) % self._loop_length:
            del self._steps[k]  # another server goes another way
            return True
        if (before, loop_index) in self._jumps or (loop_index == before and loop_index in self._still):
            self._steps[k] = loop_index
            return True
        self._astray = True
        return False

    def has(self, sample: int) -> bool:
        """The frame that covers ``sample`` is here."""
        return frame_at(sample, self._fps) in self.frames

    def heard(self, sample: int, loop_index: int) -> int:
        """``sample`` is heard now: the frame due, anchored anew where the body is not where it was foreseen."""
        anchor = self._anchor_at(sample)
        k = self._frame_of(sample, anchor)
        if self._loop_index(k) != loop_index or self._astray:
            self.set_anchor(sample, loop_index)
            k = frame_at(sample, self._fps)
        self._pass(k)
        self.started = True
        self._now = k
        return k

    def planned(self, sample: int | None) -> int | None:
        """The body frame under the frame that is due now, ``None`` in an underrun."""
        if not self._steps:
            return None
        if sample is None:
            return None if self.end is None else self._loop_index(self._now + 1)
        return self._loop_index(self._frame_of(sample, self._anchor_at(sample)))

    def index_in(self, ticks: int) -> int | None:
        """The body frame ``ticks`` ticks after the next one of a turn that ends, ``None`` of one that does not."""
        return self._loop_index(self._now + 1 + ticks) if self.end is not None and self._steps else None

    def closing(self, loop_index: int) -> int | None:
        """After the last sample: the frame due, ``None`` where the body has moved on and it has no place."""
        if self._loop_index(self._now + 1) != loop_index:
            return None
        self._now += 1
        self._pass(self._now)
        return self._now

    def take(self, k: int) -> Frame | None:
        """Frame ``k``, where it is here; earlier ones are dropped."""
        frame = self.frames.pop(k, None)
        if frame is not None and frame.loop_index != self._loop_index(k):
            self._stats.misplaced += 1  # drawn before the path turned
            frame = None
        for old in [j for j in self.frames if j < k]:
            del self.frames[old]
            self._stats.dropped += 1
        while len(self._anchors) > 1 and self._anchors[1].frame <= k:
            del self._anchors[0]
        return frame

    def is_over(self, k: int) -> bool:
        """The audio ends before frame ``k``."""
        return self.end is not None and k > frame_at(max(0, self.end - 1), self._fps)

    def _anchor_at(self, sample: int) -> _Anchor:
        return next((a for a in reversed(self._anchors) if a.sample <= sample + self._half), self._anchors[0])

    def _frame_of(self, sample: int, anchor: _Anchor) -> int:
        """The frame nearest to ``sample``."""
        one = SAMPLE_RATE * self._fps.denominator  # frame, in 1/numerator samples
        moved = (sample - anchor.sample) * self._fps.numerator + one // 2
        return anchor.frame + moved // one

    def _pass(self, k: int) -> None:
        """Steps up to frame ``k`` have been taken: the last of them is where the turn goes on from."""
        passed = [j for j in self._steps if j <= k]
        if not passed:
            return
        last = max(passed)
        base = next((a for a in reversed(self._anchors) if a.frame <= last), self._anchors[0])
        sample = base.sample + frame_start(last, self._fps) - frame_start(base.frame, self._fps)
        self._anchors.append(_Anchor(last, sample, self._steps[last]))
        for j in passed:
            del self._steps[j]

    def _loop_index(self, k: int) -> int:
        """The body frame of frame ``k``."""
        start, _, index = next((a for a in reversed(self._anchors) if a.frame <= k), self._anchors[0])
        for j, there in self._steps.items():
            if start < j <= k:
                start, index = j, there
        return (index + k - start) % self._loop_length
