"""A bounded record of one call's SIP messages, kept only where somebody asked for it."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple


class TraceEntry(NamedTuple):
    """`time` is seconds of the stack's clock; `direction` "in" or "out"."""

    time: float
    direction: str
    remote: tuple[str, int]
    data: bytes


class Trace:
    """The last `limit` messages. Credentials are blanked before anything is kept."""

    def __init__(self, limit: int) -> None:
        self._entries: deque[TraceEntry] = deque(maxlen=limit)

    def add(self, entry: TraceEntry) -> None:
        self._entries.append(entry._replace(data=_without_secrets(entry.data)))

    def entries(self) -> list[TraceEntry]:
        return list(self._entries)

    def text(self) -> str:
        """The record as a person reads it."""
        return "\n".join(
            f"--- {e.time:.3f} {e.direction} {e.remote[0]}:{e.remote[1]}\n{e.data.decode('utf-8', 'replace')}"
            for e in self._entries
        )


def _without_secrets(data: bytes) -> bytes:
    lines = data.split(b"\r\n")
    for index, line in enumerate(lines):
        lower = line.lower()
        if lower.startswith((b"authorization:", b"proxy-authorization:")):
            lines[index] = line.partition(b":")[0] + b": (removed)"
        elif lower.startswith(b"a=crypto:"):
            lines[index] = line.partition(b"inline:")[0] + b"inline:(removed)"
    return b"\r\n".join(lines)
