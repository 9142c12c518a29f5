"""When idle leaves the loop at a jump point: seldom enough to be unseen, never the same round for long."""

from __future__ import annotations

import random

_QUIET = 1  # jump points passed after a jump before the next one is thought of
_CHANCE = 0.5


class Wander:
    """A :data:`visavis.playout.playout.ChooseJump`; the same seed makes the same choices.

    A jump costs a key frame, so on average every third jump point is taken: with the three segments of the
    usual loop of five seconds, one in five seconds. The segment that was just played is not played again.
    """

    def __init__(self, loop_length: int, seed: str) -> None:
        self._length = loop_length
        self._random = random.Random(seed)
        self._passed = 0
        self._entered = 0  # where the segment that ends now began

    def __call__(self, index: int, targets: tuple[int, ...]) -> int | None:
        """Where to go on after ``index``; ``None``: play on."""
        others = [target for target in targets if target != self._entered]
        self._passed += 1
        if self._passed <= _QUIET or not others or self._random.random() >= _CHANCE:
            self._entered = (index + 1) % self._length
            return None
        self._passed = 0
        self._entered = self._random.choice(others)
        return self._entered
