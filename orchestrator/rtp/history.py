"""Packets sent lately, for retransmission on generic NACK (RFC 4585 section 6.2.1). Sans-IO."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import NamedTuple

KEPT_PACKETS = 512
KEPT_TICKS = 90_000
"""One second of the video clock: what is older comes too late to be shown."""
SHORTEST_INTERVAL = 0.02
_BURST = 48.0


class Sent(NamedTuple):
    """One packet; ``packet`` has room for the header in front, which other calls may have overwritten."""

    sequence: int
    packet: bytearray
    marker: bool
    timestamp: int


class SentPackets:
    """A ring of the last packets, kept by reference.

    What is repeated is bounded: ``per_second`` packets (and a burst), and none twice within
    ``SHORTEST_INTERVAL``, whatever the peer asks for.
    """

    def __init__(self, per_second: float) -> None:
        self.asked = 0
        self.repeated = 0
        self._ring: list[Sent | None] = [None] * KEPT_PACKETS
        self._repeated_at: dict[int, float] = {}
        self._newest = 0
        self._per_second = per_second
        self._tokens, self._filled = _BURST, 0.0

    def keep(self, sequence: int, packet: bytearray, marker: bool, timestamp: int) -> None:
        """Remember a packet that is being sent."""
        self._newest = timestamp
        self._ring[sequence % KEPT_PACKETS] = Sent(sequence, packet, marker, timestamp)

    def wanted(self, missing: Iterable[int], now: float) -> Iterator[Sent]:
        """Those of the missing packets that are to be sent again now."""
        self._tokens = min(_BURST, self._tokens + (now - self._filled) * self._per_second)
        self._filled = now
        if len(self._repeated_at) > KEPT_PACKETS:
            self._repeated_at = {s: at for s, at in self._repeated_at.items() if now - at < SHORTEST_INTERVAL}
        for sequence in itertools.islice(missing, KEPT_PACKETS):
            if self._tokens < 1:
                return
            self.asked += 1
            sent = self._ring[sequence % KEPT_PACKETS]
            if sent is None or sent.sequence != sequence:
                continue
            if (self._newest - sent.timestamp) & 0xFFFFFFFF > KEPT_TICKS:
                continue
            if now - self._repeated_at.get(sequence, float("-inf")) < SHORTEST_INTERVAL:
                continue
            self._tokens -= 1
            self._repeated_at[sequence] = now
            self.repeated += 1
            yield sent
