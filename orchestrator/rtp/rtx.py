"""The retransmission payload format (RFC 4588), on the session of the stream it repairs. Sans-IO."""

from __future__ import annotations

import secrets
import struct

from orchestrator.rtp.history import Sent
from orchestrator.rtp.packet import HEADER_SIZE, write_header

_ORIGINAL = struct.Struct("!H")


class RtxStream:
    """A source of its own, with sequence numbers of its own, that carries packets sent before."""

    def __init__(self, payload_type: int, ssrc: int) -> None:
        self.payload_type = payload_type
        self.ssrc = ssrc
        self._sequence = secrets.randbelow(1 << 15)

    def wrap(self, sent: Sent) -> bytearray:
        """The packet on the wire: the original's sequence number, then its payload (section 4)."""
        packet = bytearray(HEADER_SIZE) + _ORIGINAL.pack(sent.sequence) + sent.packet[HEADER_SIZE:]
        write_header(packet, self.payload_type, sent.marker, self._sequence, sent.timestamp, self.ssrc)
        self._sequence = (self._sequence + 1) & 0xFFFF
        return packet
