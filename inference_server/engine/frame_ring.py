"""Frames on their way from the engine process to the front: one anonymous shared memory, in lanes.

A lane belongs to one batch under way. The memory has no name (``memfd``), so that nothing is left behind
when a process is killed and the size of ``/dev/shm`` in a container does not matter.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence


class FrameRing:
    """``lanes`` equal parts of one shared memory of ``size`` bytes."""

    def __init__(self, fd: int, size: int, lanes: int) -> None:
        self.fd = fd
        self.lane_size = size // lanes // 4096 * 4096
        self._free = list(range(lanes))
        self._map = mmap.mmap(fd, size)
        self._view = memoryview(self._map)

    @classmethod
    def create(cls, size: int, lanes: int) -> FrameRing:
        """New memory; pages are only taken when written."""
        fd = os.memfd_create("visavis-frames")
        os.ftruncate(fd, size)
        return cls(fd, size, lanes)

    def take(self) -> int | None:
        """A lane for a batch, or ``None`` when all are under way."""
        return self._free.pop() if self._free else None

    def give(self, lane: int) -> None:
        """The batch of this lane has been copied out."""
        self._free.append(lane)

    def reset(self, lanes: int) -> None:
        """All lanes are free: the engine process is new."""
        self._free = list(range(lanes))

    def offsets(self, lane: int, sizes: Sequence[int]) -> list[int]:
        """Places for rows of these sizes, as many as fit."""
        places: list[int] = []
        at = 0
        for size in sizes:
            if at + size > self.lane_size:
                break
            places.append(lane * self.lane_size + at)
            at += (size + 63) // 64 * 64
        return places

    def view(self, offset: int, size: int) -> memoryview:
        """The bytes of one row."""
        return self._view[offset : offset + size]

    def close(self) -> None:
        """Let go of the memory."""
        try:
            self._view.release()
            self._map.close()
        except BufferError:
            pass  # an engine still holds a row; the memory goes with the process
        os.close(self.fd)
