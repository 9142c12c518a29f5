"""Where the body is in its loop, and where it may leave it. Sans-IO."""

from __future__ import annotations

from collections.abc import Callable, Sequence

ChooseJump = Callable[[int, tuple[int, ...]], int | None]
"""Called while idle at a loop index where jumps start, with their targets; ``None``: play on."""


class BodyLoop:
    """``length`` body frames, one a tick; ``choose`` may leave them at ``jumps`` (from, to).

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
        self._jumps: dict[int, tuple[int, ...]] = {}
        for start, target in jumps:
            self._jumps[start] = (*self._jumps.get(start, ()), target)

    def index_in(self, ticks: int) -> int:
        """The body frame ``ticks`` ticks after the next one, if no jump is taken until then."""
        return (self.index + ticks) % self.length

    def skip(self, ticks: int) -> None:
        """Move on over ticks that the clock missed."""
        self.index = self.index_in(ticks)

    def advance(self, may_jump: bool) -> None:
        """The next tick."""
        left, self.index = self.index, self.index_in(1)
        targets = self._jumps.get(left, ())
        if not may_jump or self._choose is None or not targets:
            return
        target = self._choose(left, targets)
        if target is not None and target in targets:
            self.index = target
