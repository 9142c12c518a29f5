"""Frames that wait for the voice they came with, in the order in which they came. Sans-IO."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class HeldFrames(Generic[T]):
    """What came behind speech, until that speech has gone out: texts, ends of replies, calls of functions.

    Places are seconds of all speech that was fed so far.
    """

    def __init__(self) -> None:
        self.fed = 0.0
        self.heard = 0.0
        self._held: deque[tuple[float, T]] = deque()

    def hold(self, frame: T) -> bool:
        """Keep it until what was fed by now is heard; False where that is so already."""
        if not self._held and self.heard >= self.fed:
            return False
        self._held.append((self.fed, frame))
        return True

    def due(self) -> list[T]:
        """What need not wait any longer."""
        frames: list[T] = []
        while self._held and self._held[0][0] <= self.heard + 1e-6:
            frames.append(self._held.popleft()[1])
        return frames

    def cut(self, kept: Callable[[T], bool]) -> list[T]:
        """The speech was dropped; returns what goes on all the same."""
        frames = [frame for _, frame in self._held if kept(frame)]
        self._held.clear()
        self.heard = self.fed
        return frames
