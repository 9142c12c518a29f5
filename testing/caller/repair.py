"""What a phone does about lost video packets: generic NACK, and PLI when that was in vain (RFC 4585)."""

from __future__ import annotations

import struct

AGAIN_S = 0.08
GIVE_UP_S = 0.3
_WIDEST_GAP = 200


class Repair:
    """Sequence numbers that are missing, when they were asked for, and when it is too late.

    With a ``patience`` of 0 nothing is asked for: a loss is a case for PLI.
    """

    def __init__(self, patience: float = GIVE_UP_S) -> None:
        self._patience = patience
        self.recovered = self.given_up = 0
        self.asks: dict[int, list[float]] = {}
        """When each sequence number was asked for."""
        self._highest: int | None = None
        self._missing: dict[int, tuple[float, float]] = {}  # since, last asked

    @property
    def asked(self) -> int:
        """Packets that were asked for, each time counted."""
        return sum(map(len, self.asks.values()))

    def arrived(self, sequence: int, now: float) -> None:
        """A packet, by its extended sequence number."""
        highest = self._highest
        if highest is None or sequence > highest + _WIDEST_GAP:
            self._missing.clear()
        elif sequence > highest:
            self._missing |= dict.fromkeys(range(highest + 1, sequence), (now, float("-inf")))
        elif self._missing.pop(sequence, None) is not None:
            self.recovered += 1
        self._highest = sequence if highest is None else max(highest, sequence)

    def due(self, now: float) -> tuple[list[int], bool]:
        """What to ask for now, and whether something was given up."""
        late = [s for s, (since, _) in self._missing.items() if now - since >= self._patience]
        for sequence in late:
            del self._missing[sequence]
        self.given_up += len(late)
        ask = [s for s, (_, last) in self._missing.items() if now - last >= AGAIN_S]
        for sequence in ask:
            self._missing[sequence] = (self._missing[sequence][0], now)
            self.asks.setdefault(sequence, []).append(now)
        return ask, bool(late)


def nack(ours: int, theirs: int, sequences: list[int]) -> bytes:
    """An RR without blocks and one generic NACK (section 6.2.1)."""
    pairs = b""
    waiting = sorted({s & 0xFFFF for s in sequences})
    while waiting:
        first, rest = waiting[0], waiting[1:]
        near = [s for s in rest if s - first <= 16]
        pairs += struct.pack("!HH", first, sum(1 << (s - first - 1) for s in near))
        waiting = rest[len(near) :]
    words = 2 + len(pairs) // 4
    return (
        struct.pack("!BBHI", 0x80, 201, 1, ours)
        + struct.pack("!BBHII", 0x81, 205, words, ours, theirs)
        + pairs
    )
