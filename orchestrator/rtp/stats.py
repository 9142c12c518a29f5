"""Reception statistics and round-trip times (RFC 3550 sections 6.4.1, A.1, A.3 and A.8)."""

from __future__ import annotations

from orchestrator.rtp.packet import sequence_delta
from orchestrator.rtp.rtcp import ReportBlock

NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 (NTP) to 1970 (Unix)."""


def to_ntp(unix_seconds: float) -> int:
    """64-bit NTP timestamp of a Unix time, modulo 2^64: era 1 begins on 2036-02-07 (RFC 3550 section 4)."""
    return int((unix_seconds + NTP_EPOCH) * 2**32) & 0xFFFFFFFFFFFFFFFF


def middle_ntp(ntp: int) -> int:
    """The middle 32 bits, as LSR carries them."""
    return ntp >> 16 & 0xFFFFFFFF


def round_trip(now_ntp: int, lsr: int, dlsr: int) -> float | None:
    """Seconds of round trip from a report block, ``None`` where the peer has seen no SR or lies."""
    if not lsr:
        return None
    ticks = (middle_ntp(now_ntp) - lsr - dlsr) & 0xFFFFFFFF
    return ticks / 65536 if ticks < 60 * 65536 else None


class Reception:
    """What has arrived of one source; call ``received`` for each packet in arrival order."""

    __slots__ = (
        "_base",
        "_cycles",
        "_expected_prior",
        "_highest",
        "_jitter",
        "_last_sr",
        "_last_sr_at",
        "_received_prior",
        "_transit",
        "clock_rate",
        "received_packets",
        "ssrc",
    )

    def __init__(self, clock_rate: int) -> None:
        self.clock_rate = clock_rate
        self.ssrc: int | None = None
        self._last_sr = 0
        self._last_sr_at = 0.0
        self._restart(0)

    def _restart(self, sequence: int) -> None:
        self.received_packets = 0
        self._base = self._highest = sequence
        self._cycles = self._expected_prior = self._received_prior = 0
        self._jitter = 0.0
        self._transit: float | None = None

    def received(self, ssrc: int, sequence: int, timestamp: int, now: float) -> None:
        """Count one packet; ``now`` in monotonic seconds."""
        if ssrc != self.ssrc:
            self.ssrc = ssrc
            self._restart(sequence)
        ahead = sequence_delta(sequence, self._highest)
        if ahead > 0:
            if sequence < self._highest:
                self._cycles += 1 << 16
            self._highest = sequence
        self.received_packets += 1
        transit = now * self.clock_rate - timestamp
        if self._transit is not None:
            difference = abs(transit - self._transit) % 2**32
            if difference < self.clock_rate:
                self._jitter += (difference - self._jitter) / 16
        self._transit = transit

    def sender_report(self, ntp: int, now: float) -> None:
        """Remember the peer's SR for LSR and DLSR."""
        self._last_sr, self._last_sr_at = middle_ntp(ntp), now

    @property
    def expected_packets(self) -> int:
        return 0 if self.ssrc is None else self._cycles + self._highest - self._base + 1

    @property
    def lost_packets(self) -> int:
        return self.expected_packets - self.received_packets

    @property
    def jitter_seconds(self) -> float:
        return self._jitter / self.clock_rate

    def report(self, now: float) -> ReportBlock | None:
        """The report block since the last call, ``None`` before the first packet."""
        if self.ssrc is None:
            return None
        expected = self.expected_packets - self._expected_prior
        lost = expected - (self.received_packets - self._received_prior)
        self._expected_prior, self._received_prior = self.expected_packets, self.received_packets
        fraction = min(255, (lost << 8) // expected) if expected > 0 and lost > 0 else 0
        return ReportBlock(
            self.ssrc,
            fraction,
            max(-(1 << 23), min((1 << 23) - 1, self.lost_packets)),
            (self._cycles + self._highest) & 0xFFFFFFFF,
            int(self._jitter),
            self._last_sr,
            int((now - self._last_sr_at) * 65536) & 0xFFFFFFFF if self._last_sr else 0,
        )
