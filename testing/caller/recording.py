"""What the phone received: packets with arrival times, put in order, decoded, aligned by RTCP."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

START_CODE = b"\0\0\0\1"
PAYLOAD_TYPES = {"PCMU": 0, "PCMA": 8, "opus": 111}
CLOCK_RATES = {"PCMU": 8000, "PCMA": 8000, "opus": 48_000}
_NTP_UNIT = 2.0**-32
_NTP_EPOCH = 2_208_988_800
_NTP_WRAP = 1 << 64


def unwrapped(ntp: int, unix: float) -> int:
    """A 64-bit NTP timestamp of about the Unix time ``unix``, in the era that it is of (RFC 5905 section 6)."""
    now = int((unix + _NTP_EPOCH) * 2**32)
    return ntp + round((now - ntp) / _NTP_WRAP) * _NTP_WRAP


@dataclass
class Packet:
    """One RTP packet; ``sequence`` and ``timestamp`` are extended beyond their wrap."""

    sequence: int
    timestamp: int
    marker: bool
    payload_type: int
    payload: bytes
    arrived: float


@dataclass
class Stream:
    """One received RTP stream and the sender reports about it (RFC 3550).

    ``kept`` is how many of the last packets and reports are kept at least, for calls that last; 0: all of them.
    """

    clock_rate: int
    packets: list[Packet] = field(default_factory=list)
    reports: list[tuple[float, int, float]] = field(default_factory=list)  # NTP s, RTP timestamp, arrived
    ssrc: int | None = None
    highest: int = 0
    last_sr: int = 0
    bye: bool = False
    octets: int = 0
    kept: int = 0
    received: int = 0
    first: int = 0  # the sequence number that came first

    def on_rtp(self, data: bytes, now: float) -> None:
        """Take a datagram of the RTP port."""
        if len(data) < 12 or data[0] >> 6 != 2:
            return
        sequence, timestamp, ssrc = struct.unpack_from("!HII", data, 2)
        if self.ssrc not in (None, ssrc):  # a new stream begins
            self.packets.clear()
            self.reports.clear()
        self.ssrc = ssrc
        if self.packets:
            last = self.packets[-1]
            sequence = last.sequence + (sequence - last.sequence + 0x8000) % 0x10000 - 0x8000
            timestamp = last.timestamp + (timestamp - last.timestamp + 2**31) % 2**32 - 2**31
        self.highest = max(self.highest, sequence)
        self.octets += len(data)
        payload = data[12 + 4 * (data[0] & 15) :]
        if not self.packets:
            self.first = sequence
        self.received += 1
        self.packets.append(Packet(sequence, timestamp, bool(data[1] & 0x80), data[1] & 0x7F, payload, now))
        if self.kept and len(self.packets) > 2 * self.kept:
            del self.packets[: -self.kept], self.reports[: -self.kept]

    def on_rtcp(self, data: bytes, now: float) -> None:
        """Take a datagram of the RTCP port: sender reports and goodbyes."""
        while len(data) >= 8:
            kind, words = data[1], struct.unpack_from("!H", data, 2)[0]
            if kind == 200 and len(data) >= 20:
                ntp, timestamp = struct.unpack_from("!QI", data, 8)
                self.last_sr = ntp >> 16 & 0xFFFFFFFF
                if self.packets:
                    near = self.packets[-1].timestamp
                    timestamp = near + (timestamp - near + 2**31) % 2**32 - 2**31
                    self.reports.append((unwrapped(ntp, time.time()) * _NTP_UNIT, timestamp, now))
            elif kind == 203:
                self.bye = True
            data = data[4 * (words + 1) :]

    @property
    def lost(self) -> int:
        """Sequence numbers that never came."""
        if not self.packets:
            return 0
        seen = {packet.sequence for packet in self.packets}
        return max(seen) - min(seen) + 1 - len(seen)

    def sender_time(self, timestamp: int, *, report: int = -1) -> float:
        """When the sender says this timestamp was due, in NTP seconds. Raises ``LookupError`` with no report."""
        if not self.reports:
            raise LookupError("no RTCP sender report arrived")
        ntp, reference, _ = self.reports[report]
        return ntp + (timestamp - reference) / self.clock_rate

    def ordered(self) -> list[Packet]:
        """Packets by sequence number, each once."""
        first = {p.sequence: p for p in reversed(self.packets)}
        return [packet for _, packet in sorted(first.items())]


def access_units(packets: Iterable[Packet]) -> list[tuple[bytes, int, float]]:
    """Annex B bytes, RTP timestamp and arrival of each access unit, given in order, that is whole."""
    units: list[tuple[bytes, int, float]] = []
    nals: list[bytes] = []
    fragment = b""
    previous: Packet | None = None
    whole = True
    arrived = 0.0
    for packet in packets:
        payload = packet.payload
        kind = payload[0] & 31 if payload else 0
        begins = kind != 28 or bool(payload[1:2] >= b"\x80")
        if previous is not None and packet.timestamp != previous.timestamp and not previous.marker:
            nals, whole, arrived = [], begins, 0.0  # the end of the one before is lost
        elif previous is not None and packet.sequence != previous.sequence + 1:
            whole = previous.marker and begins
        previous = packet
        arrived = max(arrived, packet.arrived)
        if kind == 24:  # STAP-A, RFC 6184 section 5.7.1
            at = 1
            while at + 2 < len(payload):
                size = int.from_bytes(payload[at : at + 2], "big")
                nals.append(payload[at + 2 : at + 2 + size])
                at += 2 + size
        elif kind == 28 and len(payload) > 2:  # FU-A, section 5.8
            if payload[1] & 0x80:
                fragment = bytes([payload[0] & 0xE0 | payload[1] & 0x1F])
            fragment += payload[2:]
            if payload[1] & 0x40:
                nals.append(fragment)
        elif kind:
            nals.append(payload)
        if packet.marker:
            if whole and nals:
                units.append((b"".join(START_CODE + n for n in nals), packet.timestamp, arrived))
            nals, whole, arrived = [], True, 0.0
    return units


@dataclass
class VideoFrame:
    """A decoded picture: RGB ``(h, w, 3)``, RTP timestamp, arrival of its last packet."""

    image: NDArray[np.uint8]
    timestamp: int
    arrived: float
    keyframe: bool


class Recording:
    """Both streams of one call; ``rate`` is that of its sound, in samples a second."""

    def __init__(self, codec: str = "PCMU") -> None:
        self.codec = codec
        self.rate = CLOCK_RATES[codec]
        self.audio = Stream(self.rate)
        self.video = Stream(90_000)
        self.answered = 0.0
        self.said: NDArray[np.int16] = np.zeros(0, np.int16)
        """What the phone has sent, from ``answered`` on."""

    def said_meanwhile(self) -> NDArray[np.int16]:
        """What the phone has sent at the time of each of the ``samples``."""
        length, voice = len(self.samples()), self.audio.ordered()
        late = round((voice[0].arrived - self.answered) * self.rate) if voice else 0
        moved = self.said[late:] if late >= 0 else np.pad(self.said, (-late, 0))
        return np.pad(moved[:length], (0, max(0, length - len(moved))))

    def samples(self) -> NDArray[np.int16]:
        """The voice at ``rate`` from its first packet on, mono; what was lost is silence."""
        packets = [p for p in self.audio.ordered() if p.payload_type == PAYLOAD_TYPES[self.codec]]
        if not packets:
            return np.zeros(0, np.int16)
        first = packets[0].timestamp
        pieces = list(map(self.decoder(), (p.payload for p in packets)))
        out = np.zeros(packets[-1].timestamp - first + len(pieces[-1]), np.int16)
        for packet, pcm in zip(packets, pieces, strict=True):
            at = packet.timestamp - first
            out[at : at + len(pcm)] = pcm[: len(out) - at]
        return out

    def decoder(self) -> Callable[[bytes], NDArray[np.int16]]:
        """Makes samples at ``rate`` of payloads in a row."""
        return _opus() if self.codec == "opus" else self._g711

    def _g711(self, payload: bytes) -> NDArray[np.int16]:
        pcm: NDArray[np.int16] = G711[self.codec][np.frombuffer(payload, np.uint8)]
        return pcm

    def access_units(self) -> list[tuple[bytes, int, float]]:
        """Annex B bytes, RTP timestamp and arrival of each access unit whose packets all came."""
        return access_units(self.video.ordered())

    def frames(self) -> list[VideoFrame]:
        """Every picture that decodes."""
        decoder: Any = av.CodecContext.create("h264", "r")
        decoder.thread_count = 1
        arrivals: dict[int, float] = {}
        out: list[VideoFrame] = []
        pictures: list[Any] = []
        for data, timestamp, arrived in self.access_units():
            packet = av.Packet(data)
            packet.pts = timestamp
            packet.time_base = Fraction(1, 90_000)
            arrivals[timestamp] = arrived
            pictures += decoder.decode(packet)
        pictures += decoder.decode(None)
        for picture in pictures:
            image = picture.to_ndarray(format="rgb24")
            out.append(
                VideoFrame(image, picture.pts, arrivals.get(picture.pts, 0.0), bool(picture.key_frame))
            )
        return out

    def skew_ms(self) -> list[tuple[float, float]]:
        """How much later than the voice each picture arrived, by the sender's clock: (call second, ms).

        Zero means that a receiver that plays what it gets shows lips and voice as the sender meant them.
        """
        if not (self.audio.reports and self.video.reports):
            return []
        voice = [(self.audio.sender_time(p.timestamp), p.arrived) for p in self.audio.ordered()]
        times = np.array([t for t, _ in voice])
        delay = np.array([arrived - t for t, arrived in voice])
        out = []
        for packet in self.video.ordered():
            if packet.marker:
                due = self.video.sender_time(packet.timestamp)
                usual = float(np.interp(due, times, delay))
                out.append((due - times[0], (packet.arrived - due - usual) * 1000))
        return out


def _opus() -> Callable[[bytes], NDArray[np.int16]]:
    """A decoder of one stream (RFC 6716): payload to mono PCM at 48 kHz."""
    decoder: Any = av.CodecContext.create("libopus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "mono"

    def decode(payload: bytes) -> NDArray[np.int16]:
        pcm = [frame.to_ndarray().reshape(-1) for frame in decoder.decode(av.Packet(payload))]
        return np.concatenate(pcm).astype(np.int16, copy=False)

    return decode


def _ulaw_table() -> NDArray[np.int16]:
    code = ~np.arange(256, dtype=np.uint8)
    magnitude = (((code & 0x0F).astype(np.int32) << 3) + 0x84 << ((code >> 4) & 7).astype(np.int32)) - 0x84
    table: NDArray[np.int16] = np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)
    return table


def _alaw_table() -> NDArray[np.int16]:
    code = np.arange(256, dtype=np.uint8) ^ 0x55
    exponent = ((code >> 4) & 7).astype(np.int32)
    mantissa = (code & 0x0F).astype(np.int32)
    magnitude = np.where(
        exponent == 0, (mantissa << 4) + 8, ((mantissa << 4) + 0x108) << np.maximum(exponent - 1, 0)
    )
    table: NDArray[np.int16] = np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)
    return table


G711 = {"PCMU": _ulaw_table(), "PCMA": _alaw_table()}
"""Samples by code."""
