"""The retransmission payload format (RFC 4588), on the session of the stream it repairs. Sans-IO."""

from __future__ import annotations

from orchestrator.rtp.history import Sent
from orchestrator.rtp.packet import HEADER_SIZE


def retransmission(sent: Sent) -> bytearray:
    """Room for the header, the original's sequence number, then its payload (section 4)."""
    return bytearray(HEADER_SIZE) + sent.sequence.to_bytes(2, "big") + sent.packet[HEADER_SIZE:]
