"""RTP packets (RFC 3550 section 5.1)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import NamedTuple

HEADER_SIZE = 12
_HEADER = struct.Struct("!BBHII")
_EXTENSION = struct.Struct("!HH")


class MalformedPacket(ValueError):
    """A datagram that is not what its socket expects; it is counted and dropped."""


class Header(NamedTuple):
    """The fixed header and where the payload lies (``start`` inclusive, ``end`` exclusive)."""

    payload_type: int
    marker: bool
    sequence: int
    timestamp: int
    ssrc: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class RtpPacket:
    """One RTP packet with its payload copied out."""

    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int
    payload: bytes
    marker: bool = False


def parse_header(data: bytes | bytearray | memoryview, size: int | None = None) -> Header:
    """Read a header out of the first ``size`` bytes; CSRCs, an extension and padding are stepped over.

    Raises ``MalformedPacket`` where a length field points outside the datagram.
    """
    end = len(data) if size is None else size
    if end < HEADER_SIZE:
        raise MalformedPacket("RTP packet shorter than its header")
    first, second, sequence, timestamp, ssrc = _HEADER.unpack_from(data)
    if first >> 6 != 2:
        raise MalformedPacket("not RTP version 2")
    start = HEADER_SIZE
    if first != 0x80:
        start += 4 * (first & 0x0F)
        if first & 0x10:
            if start + 4 > end:
                raise MalformedPacket("RTP header extension outside the packet")
            start += 4 + 4 * _EXTENSION.unpack_from(data, start)[1]
        if first & 0x20 and start < end:
            padding = data[end - 1]
            if not 0 < padding <= end - start:
                raise MalformedPacket("RTP padding longer than the packet")
            end -= padding
        if start > end:
            raise MalformedPacket("RTP header longer than the packet")
    return Header(second & 0x7F, second > 0x7F, sequence, timestamp, ssrc, start, end)


def parse(data: bytes) -> RtpPacket:
    """Parse a whole datagram; raises ``MalformedPacket``."""
    head = parse_header(data)
    return RtpPacket(
        head.payload_type,
        head.sequence,
        head.timestamp,
        head.ssrc,
        bytes(data[head.start : head.end]),
        head.marker,
    )


def build(packet: RtpPacket) -> bytes:
    """Bytes on the wire: no CSRC, no extension, no padding."""
    out = bytearray(HEADER_SIZE)
    write_header(out, packet.payload_type, packet.marker, packet.sequence, packet.timestamp, packet.ssrc)
    return bytes(out) + packet.payload


def write_header(
    buffer: bytearray, payload_type: int, marker: bool, sequence: int, timestamp: int, ssrc: int
) -> None:
    """Write the twelve header bytes in place."""
    _HEADER.pack_into(
        buffer, 0, 0x80, payload_type | 0x80 if marker else payload_type, sequence, timestamp, ssrc
    )


def looks_like_rtcp(second_byte: int) -> bool:
    """With ``rtcp-mux``: whether the second byte is an RTCP packet type (RFC 5761 section 4)."""
    return 192 <= second_byte <= 223


def sequence_delta(newer: int, older: int) -> int:
    """Signed distance of two 16-bit sequence numbers."""
    return ((newer - older + 0x8000) & 0xFFFF) - 0x8000
