"""Packets in a byte stream (RFC 4571), as ICE over TCP has them (RFC 6544 section 3). Sans-IO."""

from __future__ import annotations

LONGEST = 2048
"""More than any datagram of ours or of a browser's."""


class FramingError(ValueError):
    """A packet that is longer than any could be: the connection must be closed."""


def framed(packet: bytes) -> bytes:
    """A packet behind its length."""
    return len(packet).to_bytes(2) + packet


class Deframer:
    """Cuts a stream into packets; empty ones are left out."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The whole packets so far. Raises :class:`FramingError`."""
        buffer = self._buffer
        buffer += data
        packets, at = [], 0
        while len(buffer) - at >= 2:
            length = int.from_bytes(buffer[at : at + 2])
            if length > LONGEST:
                raise FramingError(f"a packet of {length} bytes")
            if len(buffer) - at - 2 < length:
                break
            if length:
                packets.append(bytes(buffer[at + 2 : at + 2 + length]))
            at += 2 + length
        del buffer[:at]
        return packets
