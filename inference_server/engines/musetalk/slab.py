"""One piece of device memory for all resident avatars: fixed addresses, so that captured graphs may read it."""

from __future__ import annotations

from inference_server.engines.base import NoMemory


class Slab:
    """First-fit places in ``0..size``; the units are the caller's."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.used = 0
        self._free: list[tuple[int, int]] = [(0, size)]  # (start, length), ascending, never adjacent

    def take(self, length: int) -> int:
        """Start of a new place. Raises :class:`NoMemory`."""
        for i, (start, room) in enumerate(self._free):
            if room >= length:
                rest = [(start + length, room - length)] if room > length else []
                self._free[i : i + 1] = rest
                self.used += length
                return start
        raise NoMemory(
            "the device memory for avatars is full: raise the engine's avatar_mb or use fewer avatars"
        )

    def give(self, start: int, length: int) -> None:
        """Return a place that :meth:`take` gave."""
        self.used -= length
        places = sorted([*self._free, (start, length)])
        merged: list[tuple[int, int]] = []
        for place in places:
            if merged and sum(merged[-1]) == place[0]:
                merged[-1] = (merged[-1][0], merged[-1][1] + place[1])
            else:
                merged.append(place)
        self._free = merged
