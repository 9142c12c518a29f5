"""What waits to be written: bounded in number, the oldest is lost first; without I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from orchestrator.archive.entries import Entry

MOST = 20_000
"""Entries that wait: some 20 MB."""


class Backlog:
    """``lost`` counts the entries that nobody will ever read: beyond ``most``, or such as cannot be written."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._waiting: deque[Entry] = deque()
        self.lost = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._waiting)

    def put(self, entry: Entry) -> None:
        """Have this written."""
        if len(self._waiting) >= self._most:
            self._waiting.popleft()
            self.lost += 1
        self._waiting.append(entry)

    def first(self, most: int) -> list[Entry]:
        """The oldest; they wait until they are :meth:`done`."""
        return [entry for entry, _ in zip(self._waiting, range(most), strict=False)]

    def done(self, entries: Sequence[Entry], *, lost: bool = False) -> None:
        """These are written, or ``lost``."""
        gone = {id(entry) for entry in entries}
        self._waiting = deque(entry for entry in self._waiting if id(entry) not in gone)
        self.lost += len(entries) if lost else 0

    def forget(self, call_id: str) -> None:
        """Nothing of this call is to be written any more."""
        self._waiting = deque(entry for entry in self._waiting if entry.call_id != call_id)
