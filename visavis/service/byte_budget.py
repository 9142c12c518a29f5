"""A budget of bytes for what lies on a disk: the least recently used goes first."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """A file or folder: when it was used last (its modification time, seconds), and its size in bytes."""

    used: float
    size: int
    path: Path


def entries(files: Iterable[Path]) -> Iterator[Entry]:
    """Of those files that are there: other processes may drop them at any time."""
    for path in files:
        try:
            about = path.stat()
        except OSError:
            continue
        yield Entry(about.st_mtime, about.st_size, path)


def beyond_budget(there: Iterable[Entry], most_bytes: int, keep: Collection[Path] = ()) -> Iterator[Path]:
    """What has to go, least recently used first, so that the rest fits; never what is to be kept."""
    oldest_first = sorted(there)
    total = sum(entry.size for entry in oldest_first)
    for entry in oldest_first:
        if total <= most_bytes:
            return
        if entry.path not in keep:
            total -= entry.size
            yield entry.path
