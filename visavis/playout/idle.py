"""The way of an idle body through its segments: which one follows, by what the caller does. Sans-IO."""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from visavis.playout.loop import ChooseJump, IdleVariation

IdleState = Literal["idle", "listening", "paused", "thinking"]
"""What the face waits for: nothing, what the caller says, what comes after a pause of that, its own next words."""

_FITS: Mapping[IdleState, Mapping[str, float]] = {
    "idle": {"breath": 3, "tilt": 2, "sway": 2, "turn": 2, "glance": 1.5},
    "listening": {"breath": 3, "tilt": 3, "sway": 2, "lift": 1},
    "paused": {"nod": 1},
    "thinking": {"away": 5, "turn": 1, "tilt": 1, "glance": 1},
}
"""Kinds of segments by state: who listens looks at the caller and nods at pauses, who thinks looks away."""
REMEMBERED = 48
"""Segments, about a minute of them: no order among these is seen again while there is another."""


def run_again(played: Sequence[int], following: int) -> int:
    """How many segments would be seen again in the same order, ``following`` the last of them."""
    longest = 0
    for place in (place for place, start in enumerate(played) if start == following):
        run = 1
        while run <= place and played[place - run] == played[-run]:
            run += 1
        longest = max(longest, run)
    return longest


class IdlePath:
    """A :data:`visavis.playout.loop.ChooseJump` of a body whose ``segments`` (start, kind) may follow in any order.

    ``state`` is asked at every cut. What follows is drawn by chance among what suits the state; never the segment
    that was just played, and none that makes an order of the last minute seen again for longer than others do. The
    same seed and states make the same choices. A jump costs a key frame: at most one a segment.
    """

    def __init__(
        self,
        loop_length: int,
        segments: Sequence[tuple[int, str]],
        seed: str,
        state: Callable[[], IdleState] = lambda: "idle",
    ) -> None:
        self._length = loop_length
        self._kinds = dict(sorted(segments))
        self._starts = list(self._kinds)
        self._state = state
        self._random = random.Random(seed)
        self._played: deque[int] = deque(maxlen=REMEMBERED)

    def __call__(self, index: int, targets: tuple[int, ...]) -> int | None:
        """Where to go on after ``index``; ``None``: play on."""
        played = self._starts[bisect_right(self._starts, index) - 1]
        following = (index + 1) % self._length
        possible = [start for start in {following, *targets} if start in self._kinds and start != played]
        if not possible:
            return None
        if not self._played or self._played[-1] != played:  # something was said meanwhile
            self._played.append(played)
        start = self._choose(sorted(possible))
        self._played.append(start)
        return None if start == following else start

    def _choose(self, possible: list[int]) -> int:
        state = self._state()
        fitting = self._fitting(possible, state)
        if not fitting and state == "paused":
            fitting = self._fitting(possible, "listening")
        fitting = fitting or dict.fromkeys(possible, 1.0)
        again = {start: run_again(self._played, start) for start in fitting}
        newest = [start for start in fitting if again[start] == min(again.values())]
        return self._random.choices(newest, [fitting[start] for start in newest])[0]

    def _fitting(self, possible: list[int], state: IdleState) -> dict[int, float]:
        fits = _FITS[state]
        return {start: fits[self._kinds[start]] for start in possible if self._kinds[start] in fits}


def idle_path(
    loop_length: int,
    segments: Sequence[tuple[int, str]],
    seed: str,
    state: Callable[[], IdleState] = lambda: "idle",
) -> ChooseJump:
    """How an idle body goes on at its jump points: by its segments, or by chance where it is not cut into such."""
    return IdlePath(loop_length, segments, seed, state) if segments else IdleVariation(loop_length, seed)
