"""Which body frames a turn is spoken on: segments of the body, chosen so that the head follows the voice.

A path is a promise: frames tell it by their ``loop_index``, and what was told is not changed, unless the client
says that its body is elsewhere. At each cut of the body the segment comes next whose chin rises and falls with the
pitch that is already known; the head may wait there for a moment, so that a nod falls on its syllable. Now and then
the speaker looks away, whatever the voice does.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from inference_server.engines.base import BodyLoop
from inference_server.streams.prosody import Prosody
from visavis.frames import frame_start
from visavis.playout.idle import REMEMBERED, run_again

WAITS_S = (0.0, 0.08, 0.16, 0.24, 0.32, 0.4)
"""How long the head may stand still at a cut."""
_REACH_S = 1.8  # of the voice that is looked at
_LIVELY = 0.6  # a standard deviation of pitch, in the chin's largest movement
_AGAIN = 0.3  # how much worse a segment is for having been played last; half of it the time before
_SEEN = 0.25  # how much worse it is for each further segment of an order that is seen again within a minute
_FRESH = 0.4  # how much better a segment is that was not among the last dozen
_DOZEN = 12
_CHANCE = 0.15  # of difference that counts for nothing
_FARTHEST_S = 60.0  # beyond what was told: who is so far ahead is not led there
_LOOKS_AWAY = ("away", "glance")  # kinds of segments
_LOOK_AFTER, _LOOK_BY = 7, 10  # segments without one: before another may come, and must

Signal = NDArray[np.float64]


@dataclass(frozen=True)
class BodySegments:
    """A body cut into segments that may follow one another in any order. ``chin``: ``(loop,)`` how high the chin
    is, 1 the furthest that it gets from its place at the cuts. ``looks``: starts of segments that look away."""

    starts: tuple[int, ...]
    loop_length: int
    chin: Signal
    looks: frozenset[int] = frozenset()

    def at(self, loop_index: int) -> int:
        """The start of the segment that a body frame lies in."""
        return self.starts[bisect_right(self.starts, loop_index) - 1]

    def frames(self, start: int) -> int:
        """How many the segment has that begins there."""
        place = self.starts.index(start)
        end = self.starts[place + 1] if place + 1 < len(self.starts) else self.starts[0] + self.loop_length
        return end - start


def segments_of(body: BodyLoop) -> BodySegments | None:
    """The segments of a body, ``None`` where it has not two that may follow each other in any order."""
    starts = tuple(sorted({int(to) for _, to in body.jumps}))
    n = len(body)
    jumps = {((end - 1) % n, start) for end in starts for start in starts if end != start}
    if len(starts) < 2 or {(int(a), int(b)) for a, b in body.jumps} != jumps:
        return None
    nose = np.asarray(body.landmarks[:, 1, 1], np.float64)
    chin = nose[starts[0]] - nose
    away = frozenset(int(start) for start, kind in body.segments if kind in _LOOKS_AWAY)
    return BodySegments(starts, n, chin / max(float(np.abs(chin).max()), 1e-6), away & set(starts))


class BodyPath:
    """The way of one turn through the body from an anchor on. ``seed`` makes the choices that the voice leaves.

    ``played``: starts of the segments of the turns before, the last one last; this turn's are added.
    """

    def __init__(
        self,
        segments: BodySegments,
        fps: Fraction,
        prosody: Prosody,
        seed: int,
        played: list[int] | None = None,
    ) -> None:
        self._segments = segments
        self._fps = fps
        self.prosody = prosody
        self._random = random.Random(seed)
        self._first = 0  # the frame of the first index
        self._path: list[int] = []
        self._played = [] if played is None else played
        self._chosen: list[tuple[int, int]] = []  # frames and starts of this turn's segments
        self._looks = sorted(segments.looks)  # the one longest ago first
        self._without_look = self._random.randint(0, _LOOK_BY)  # segments so far

    def begin(self, frame: int, loop_index: int) -> None:
        """The body is at ``loop_index`` at ``frame``: what comes after it is chosen anew."""
        self.forget(frame - 1)
        self._first, self._path = frame, [loop_index]
        shown = self._segments.at(loop_index)
        if self._played[-1:] != [shown]:  # while nothing was said
            self._remember(frame, shown)

    def agrees(self, frame: int, loop_index: int) -> bool:
        """``frame`` lies on that index by what was told already."""
        at = frame - self._first
        return 0 <= at < len(self._path) and self._path[at] == loop_index

    def loop_index(self, frame: int) -> int:
        """The body frame under ``frame``; before the anchor, and long after what was told, the body plays on."""
        if not self._path or frame < self._first:
            start = self._path[0] if self._path else 0
            return (start + frame - self._first) % self._segments.loop_length
        ahead = frame - self._first - len(self._path) + 1
        if ahead > _FARTHEST_S * self._fps:
            return (self._path[-1] + ahead) % self._segments.loop_length
        while len(self._path) <= frame - self._first:
            self._extend()
        return self._path[frame - self._first]

    def _extend(self) -> None:
        following = (self._path[-1] + 1) % self._segments.loop_length
        if following not in self._segments.starts:
            self._path.append(following)
            return
        frame = self._first + len(self._path)
        wait, start = self._choose(frame)
        self._remember(frame, start)
        self._without_look += 1
        if start in self._looks:
            self._without_look = 0
            self._looks.remove(start)
            self._looks.append(start)
        segment = range(start, start + self._segments.frames(start))
        self._path += [start] * wait + [index % self._segments.loop_length for index in segment]

    def forget(self, frame: int) -> None:
        """``frame`` is the last that was shown: what was chosen beyond it never was."""
        while self._chosen and self._chosen[-1][0] > frame:
            _, start = self._chosen.pop()
            if start in self._played:
                del self._played[-1 - self._played[::-1].index(start)]

    def _remember(self, frame: int, start: int) -> None:
        self._chosen.append((frame, start))
        self._played.append(start)
        del self._played[:-REMEMBERED]

    def _choose(self, frame: int) -> tuple[int, int]:
        """Frames to wait and the start of the segment that comes next from ``frame`` on."""
        reach = round(_REACH_S * self._fps)
        middle = int(8000 / self._fps)
        at = np.array([frame_start(frame + k, self._fps) + middle for k in range(reach)])
        known = at < self.prosody.known
        heights = self.prosody.heights(at)
        wanted = np.where(np.isnan(heights), 0.0, heights) * _LIVELY
        counts = known & ~np.isnan(heights)
        best, choice = -np.inf, (0, self._segments.starts[0])
        waits = sorted({round(wait * self._fps) for wait in WAITS_S}) if counts.any() else [0]
        for start in self._possible():
            chin = self._chin(start)
            worse = sum(
                cost for cost, played in zip((_AGAIN, _AGAIN / 2), reversed(self._played), strict=False)
                if played == start
            )  # fmt: skip
            last = self._played[-_DOZEN:]
            worse -= _FRESH * (last[::-1].index(start) / _DOZEN if start in last else 1.0)
            worse += _SEEN * max(0, run_again(self._played, start) - 1)
            for wait in waits:
                moved = np.zeros(reach)
                part = chin[: max(0, reach - wait)]
                moved[wait : wait + len(part)] = part
                fit = float((2 * wanted * moved - moved**2)[counts].sum()) / max(1.0, 0.1 * reach)
                value = fit - worse + _CHANCE * self._random.random()
                if value > best:
                    best, choice = value, (wait, start)
        return choice

    def _possible(self) -> Sequence[int]:
        """Segments of which one may come next."""
        look = self._looks[:1] if self._without_look >= _LOOK_AFTER else []
        if look and self._without_look >= _LOOK_BY:
            return look
        others = [start for start in self._segments.starts if start not in self._looks]
        return others + look or self._segments.starts

    def _chin(self, start: int) -> Signal:
        index = np.arange(start, start + self._segments.frames(start)) % self._segments.loop_length
        return self._segments.chin[index]
