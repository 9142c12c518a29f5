"""The body's position in its loop, and the variation of idle that may leave the loop at a jump point. Sans-IO."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

ChooseJump = Callable[[int, tuple[int, ...]], int | None]
"""Called while idle at a loop index where jumps start, with their targets; ``None``: play on."""

_QUIET = 1  # jump points passed after a jump before the next one is thought of
_CHANCE = 0.5


class LoopPosition:
    """The position in ``length`` body frames, one a tick; ``choose`` may leave them at ``jumps`` (from, to).

    ``index``: the body frame of the next tick. Raises ``ValueError`` where there is no frame.
    """

    def __init__(
        self, length: int, jumps: Sequence[tuple[int, int]], choose: ChooseJump | None, index: int
    ) -> None:
        if length < 1:
            raise ValueError("a loop has at least one body frame")
        self.length = length
        self.index = index % length
        self._choose = choose
        self._left: int | None = None  # the body frame of the last tick
        self._jumps: dict[int, tuple[int, ...]] = {}
        for start, target in jumps:
            self._jumps[start] = (*self._jumps.get(start, ()), target)

    def index_in(self, ticks: int) -> int:
        """The body frame ``ticks`` ticks after the next one, if no jump is taken until then."""
        return (self.index + ticks) % self.length

    def skip(self, ticks: int) -> None:
        """Move on over ticks that the clock missed."""
        self.index = self.index_in(ticks)
        self._left = None

    def follow(self, index: int) -> None:
        """The next tick's body frame is ``index``, where the body may go there without a visible jump."""
        if self._left is not None and (index == self._left or index in self._jumps.get(self._left, ())):
            self.index = index

    def advance(self, may_jump: bool) -> None:
        """The next tick."""
        left, self.index = self.index, self.index_in(1)
        self._left = left
        targets = self._jumps.get(left, ())
        if not may_jump or self._choose is None or not targets:
            return
        target = self._choose(left, targets)
        if target is not None and target in targets:
            self.index = target


class IdleVariation:
    """A :data:`ChooseJump` by chance: seldom enough to be unseen, never the same round for long.

    The same seed makes the same choices.
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
