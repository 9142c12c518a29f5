"""Telephone events in RTP (RFC 4733)."""

from __future__ import annotations

import struct
from collections import deque
from dataclasses import dataclass

DIGITS = "0123456789*#ABCD"
SHORTEST_MS, LONGEST_MS = 40, 1000
MOST_DIGITS = 64
_GAP_STEPS = 3
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


@dataclass(frozen=True, slots=True)
class Event:
    """One packet in place of the voice's; ``start`` is the 20 ms step whose timestamp it carries."""

    payload: bytes
    marker: bool
    start: int


class DtmfSender:
    """Keys that we press: a packet each 20 ms, its end thrice (section 2.5.1.4), then a pause."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str, int]] = deque()
        self._packets: deque[tuple[bool, bytes]] = deque()
        self._start = self._pause = 0

    @property
    def busy(self) -> bool:
        """Whether something is still to be sent."""
        return bool(self._waiting or self._packets)

    def press(self, digits: str, milliseconds: int = 100) -> None:
        """Queue keys. Raises ``ValueError`` with one sentence for what cannot be pressed."""
        wrong = [digit for digit in digits if digit.upper() not in DIGITS]
        if wrong or not digits:
            raise ValueError(f"{digits!r} are no keys: use 0 to 9, *, # and A to D")
        if not SHORTEST_MS <= milliseconds <= LONGEST_MS:
            raise ValueError(f"a key is held {SHORTEST_MS} to {LONGEST_MS} ms, not {milliseconds}")
        if len(self._waiting) + len(digits) > MOST_DIGITS:
            raise ValueError(f"more than {MOST_DIGITS} keys would wait: send the rest later")
        self._waiting.extend((digit.upper(), milliseconds) for digit in digits)

    def next(self, step: int, rate: int) -> Event | None:
        """What goes out at this 20 ms step of the call, durations at ``rate``; ``None``: the voice."""
        if not self._packets:
            if self._pause > 0:
                self._pause -= 1
                return None
            if not self._waiting:
                return None
            digit, milliseconds = self._waiting.popleft()
            self._packets.extend(event_payloads(digit, milliseconds * rate // 1000, rate // 50))
            self._start = step
        marker, payload = self._packets.popleft()
        if not self._packets:
            self._pause = _GAP_STEPS
        return Event(payload, marker, self._start)
