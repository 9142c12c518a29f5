"""Telephone events in RTP (RFC 4733)."""

from __future__ import annotations

import struct
from dataclasses import dataclass

DIGITS = "0123456789*#ABCD"
_EVENT = struct.Struct("!BBH")


@dataclass(frozen=True, slots=True)
class Digit:
    """One key press; ``duration`` in clock ticks as far as it was heard."""

    digit: str
    duration: int


class DtmfReceiver:
    """Turns event packets into one ``Digit`` per press, whichever of its packets are lost."""

    def __init__(self) -> None:
        self._started: int | None = None

    def push(self, timestamp: int, payload: bytes) -> Digit | None:
        """Take one packet; the digit at its first packet that arrives (section 2.5.1.2: same timestamp)."""
        if len(payload) < 4:
            return None
        event, _, duration = _EVENT.unpack_from(payload)
        if event >= len(DIGITS) or timestamp == self._started:
            return None
        # Packets of an older press may still come out of order.
        if self._started is not None and (timestamp - self._started) & 0xFFFFFFFF > 1 << 31:
            return None
        self._started = timestamp
        return Digit(DIGITS[event], duration)


def event_payloads(digit: str, ticks: int, step: int, volume: int = 10) -> list[tuple[bool, bytes]]:
    """``(marker, payload)`` of a press of ``ticks`` clock ticks in packets of ``step``; the end thrice.

    All packets carry the RTP timestamp of the start. Raises ``ValueError`` for a character that is no digit.
    """
    event = DIGITS.index(digit.upper())
    out = [
        (at == step, _EVENT.pack(event, volume, min(at, 0xFFFF)))
        for at in range(step, max(ticks, step), step)
    ]
    end = _EVENT.pack(event, 0x80 | volume, min(max(ticks, step), 0xFFFF))
    return [*out, (not out, end), (False, end), (False, end)]
