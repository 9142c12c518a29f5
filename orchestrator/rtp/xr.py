"""RTCP XR VoIP metrics (RFC 3611 section 4.7): what was lost or came too late, in bursts and in gaps."""

from __future__ import annotations

import struct
from dataclasses import astuple, dataclass

from orchestrator.rtp.jitter import JitterBuffer
from orchestrator.rtp.packet import sequence_delta
from orchestrator.rtp.rtcp import XR

GMIN = 16
UNAVAILABLE = 127
ADAPTIVE_AND_CONCEALED = 0xFF
"""Receiver configuration: lost packets are replayed, the jitter buffer adapts, as slowly as can be said."""
_OWN_PACKET_MS = 20
_PATIENCE = 16
"""Packets after which one that has not come is lost: more than the jitter buffer ever holds."""
_JUMP = 500
_PACKET = struct.Struct("!BBHI BBHI 4B 4H 4B 4B BB 3H")


@dataclass(frozen=True, slots=True)
class VoipMetrics:
    """The fields of one report block in the order of the wire: shares in 1/256, times in milliseconds.

    Levels, R factors and MOS are not computed, which is written as 127; a time that is not known is 0.
    """

    ssrc: int
    loss_rate: int = 0
    discard_rate: int = 0
    burst_density: int = 0
    gap_density: int = 0
    burst_duration: int = 0
    gap_duration: int = 0
    round_trip: int = 0
    end_system_delay: int = 0
    signal_level: int = UNAVAILABLE
    noise_level: int = UNAVAILABLE
    echo_return_loss: int = UNAVAILABLE
    gmin: int = GMIN
    r_factor: int = UNAVAILABLE
    external_r_factor: int = UNAVAILABLE
    mos_listening: int = UNAVAILABLE
    mos_conversation: int = UNAVAILABLE
    receiver: int = 0
    reserved: int = 0
    buffer_nominal: int = 0
    buffer_maximum: int = 0
    buffer_absolute_maximum: int = 0


def build(sender: int, metrics: VoipMetrics) -> bytes:
    """An XR packet with this one block; it follows the reports of a compound packet."""
    return _PACKET.pack(0x80, XR, _PACKET.size // 4 - 1, sender, 7, 0, 8, *astuple(metrics))


class Arrivals:
    """Judges every packet of one source in order: kept, discarded or lost, within a burst or a gap.

    A burst (section 4.7.2) begins and ends with a bad packet and never has ``GMIN`` good ones in a row; a
    single bad packet belongs to the gap around it.
    """

    def __init__(self, clock_rate: int) -> None:
        self._clock_rate = clock_rate
        self._ssrc: int | None = None

    def _restart(self, ssrc: int, sequence: int, timestamp: int) -> None:
        self._ssrc, self._next, self._newest = ssrc, sequence, (sequence, timestamp)
        self._packet_ms = 20.0
        self._pending: dict[int, bool] = {}
        self._expected = self._lost = self._discarded = 0
        self._bursts = self._in_bursts = self._bad_in_bursts = 0
        self._length = self._bad = self._good = 0

    def received(self, ssrc: int, sequence: int, timestamp: int) -> None:
        """A packet came; call in the order of arrival."""
        if ssrc != self._ssrc or sequence_delta(sequence, self._next) > _JUMP:
            self._restart(ssrc, sequence, timestamp)
        ahead = sequence_delta(sequence, self._next)
        if ahead < 0:
            return  # judged already
        ticks = (timestamp - self._newest[1]) & 0xFFFFFFFF
        if sequence_delta(sequence, self._newest[0]) == 1 and 0 < ticks <= self._clock_rate // 8:
            self._packet_ms = 1000 * ticks / self._clock_rate
        self._newest = sequence, timestamp
        self._pending.setdefault(sequence, True)
        for _ in range(ahead - _PATIENCE + 1):
            self._judge(self._pending.pop(self._next, None))
            self._next = (self._next + 1) & 0xFFFF

    def discard(self, sequence: int, count: int) -> None:
        """The jitter buffer had no use for ``count`` packets, this one and those before it."""
        for number in range(sequence - count + 1, sequence + 1):
            if number & 0xFFFF in self._pending:
                self._pending[number & 0xFFFF] = False

    def _judge(self, kept: bool | None) -> None:
        self._expected += 1
        self._lost += kept is None
        self._discarded += kept is False
        if not kept:
            self._length += self._good + 1 if self._bad else 1
            self._bad, self._good = self._bad + 1, 0
            return
        self._good += 1
        if self._good == GMIN:
            self._bursts, self._in_bursts, self._bad_in_bursts = self._burst_totals()
            self._length = self._bad = 0

    def _burst_totals(self) -> tuple[int, int, int]:
        """(bursts, packets in them, bad ones among these), the one that may be under way included."""
        if self._bad < 2:
            return self._bursts, self._in_bursts, self._bad_in_bursts
        return self._bursts + 1, self._in_bursts + self._length, self._bad_in_bursts + self._bad

    def metrics(self, round_trip: float | None, buffer: JitterBuffer | None) -> VoipMetrics | None:
        """The report since the source began; ``None`` before. ``buffer`` ``None``: nobody listens to it."""
        if self._ssrc is None:
            return None
        bursts, inside, bad_inside = self._burst_totals()
        outside = self._expected - inside
        gaps = bursts + 1 - (self._bad > 1 and not self._good)
        bad_outside = self._lost + self._discarded - bad_inside
        maximum = buffer.maximum_ms if buffer else 0
        return VoipMetrics(
            self._ssrc,
            _share(self._lost, self._expected),
            _share(self._discarded, self._expected),
            _share(bad_inside, inside),
            _share(bad_outside, outside),
            _mean(inside * self._packet_ms, bursts),
            _mean(outside * self._packet_ms, gaps),
            min(round((round_trip or 0.0) * 1000), 0xFFFF),
            buffer.held_ms + _OWN_PACKET_MS if buffer else 0,
            receiver=ADAPTIVE_AND_CONCEALED if buffer else 0,
            buffer_nominal=buffer.nominal_ms if buffer else 0,
            buffer_maximum=maximum,
            buffer_absolute_maximum=maximum,
        )


def _share(part: int, whole: int) -> int:
    return min(255, 256 * part // whole) if whole else 0


def _mean(total: float, count: int) -> int:
    return min(0xFFFF, round(total / count)) if count else 0
