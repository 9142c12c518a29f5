"""Telephone events in RTP (RFC 4733)."""

from __future__ import annotations

import struct
from collections import OrderedDict, deque
from dataclasses import dataclass

from orchestrator.rtp.packet import Header, sequence_delta

DIGITS = "0123456789*#ABCD"
SHORTEST_MS, LONGEST_MS = 40, 1000
MOST_DIGITS = 64
_GAP_STEPS = 3
_END = 0x80
_GAP_SECONDS = 0.15
"""Two packets of a press come at most this long after one another, some lost."""
_PAUSE_SECONDS = 0.06
"""Ends that repeat one another come at most this long after one another."""
_STRAGGLER_SECONDS, _MISORDERED = 0.5, 100
_LONG_SEGMENT = 0xF000
_MOST_SOURCES = 4
_EVENT = struct.Struct("!BBH")


@dataclass(frozen=True, slots=True)
class Digit:
    """One key press; ``duration`` in clock ticks as far as it was heard."""

    digit: str
    duration: int


@dataclass(slots=True)
class _Press:
    """The latest press of one source: its first timestamp, and what its newest packet said."""

    began: int
    sequence: int
    timestamp: int
    payload: bytes
    event: int
    duration: int
    ended: bool
    heard: float
    restamped: bool = False


class DtmfReceiver:
    """Turns event packets into one ``Digit`` per press, whichever of its packets are lost, twice or late.

    The timestamp alone names no press, though section 2.5.1.2 says so: phones give several presses one timestamp,
    or the packets of one press several, and a new source or a restarted clock may go back. A press ends by its E
    bit or a gap; the next begins by the marker, another event, another SSRC, or a fresh timestamp after the end.
    """

    def __init__(self) -> None:
        self._sources: OrderedDict[int, _Press] = OrderedDict()

    def push(self, head: Header, payload: bytes, now: float) -> Digit | None:
        """Take one packet that came at ``now``, in seconds; the digit at the first packet of its press."""
        if len(payload) < _EVENT.size:
            return None
        event, flags, duration = _EVENT.unpack_from(payload)
        if event >= len(DIGITS):
            return None
        payload = payload[: _EVENT.size]
        ended = bool(flags & _END)
        last = self._sources.get(head.ssrc)
        if last is not None:
            if _is_old(last, head, payload, now):
                return None
            if not _begins(last, head, event, duration, ended, now):
                last.restamped |= head.timestamp != last.timestamp
                last.sequence, last.timestamp, last.payload = head.sequence, head.timestamp, payload
                last.duration, last.ended, last.heard = duration, ended or last.ended, now
                return None
        self._sources[head.ssrc] = _Press(
            head.timestamp, head.sequence, head.timestamp, payload, event, duration, ended, now
        )
        self._sources.move_to_end(head.ssrc)
        if len(self._sources) > _MOST_SOURCES:
            self._sources.popitem(last=False)
        return Digit(DIGITS[event], duration)


def _is_old(last: _Press, head: Header, payload: bytes, now: float) -> bool:
    """Whether it is the same packet once more, or one that others of its source have overtaken."""
    if now - last.heard > _STRAGGLER_SECONDS:
        return False
    behind = sequence_delta(last.sequence, head.sequence)
    if behind == 0:  # a source that does not count is still told apart by what it says
        return head.timestamp == last.timestamp and payload == last.payload
    return 0 < behind <= _MISORDERED


def _begins(last: _Press, head: Header, event: int, duration: int, ended: bool, now: float) -> bool:
    """Whether this newer packet of a source is the first of another press."""
    gap = now - last.heard > _GAP_SECONDS
    again = duration < last.duration  # within a press it only grows
    if event != last.event:
        return True
    if head.timestamp == last.timestamp:
        if not last.ended:  # the start once more, or the press goes on
            return (head.marker and (again or gap)) or (again and not ended)
        return again or (gap and (head.marker or not ended)) or (head.marker and not ended)
    if head.marker or gap:
        return True
    if not last.ended:
        # An event that outlasts its field goes on with another timestamp (section 2.5.1.3).
        return not ended and again and last.duration < _LONG_SEGMENT
    if not ended:
        return True
    # Only an end: of another press, unless that would have begun before the last one was over.
    after = (head.timestamp - last.began) & 0xFFFFFFFF
    return not last.restamped and now - last.heard > _PAUSE_SECONDS and last.duration <= after < 1 << 31


def event_payloads(digit: str, ticks: int, step: int, volume: int = 10) -> list[tuple[bool, bytes]]:
    """``(marker, payload)`` of a press of ``ticks`` clock ticks in packets of ``step``; the end thrice.

    All packets carry the RTP timestamp of the start. Raises ``ValueError`` for a character that is no digit.
    """
    event = DIGITS.index(digit.upper())
    out = [
        (at == step, _EVENT.pack(event, volume, min(at, 0xFFFF)))
        for at in range(step, max(ticks, step), step)
    ]
    end = _EVENT.pack(event, _END | volume, min(max(ticks, step), 0xFFFF))
    return [*out, (not out, end), (False, end), (False, end)]


@dataclass(frozen=True, slots=True)
class TelephoneEvent:
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

    def next(self, step: int, rate: int) -> TelephoneEvent | None:
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
        return TelephoneEvent(payload, marker, self._start)
