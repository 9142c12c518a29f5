"""The sender of one of our own RTP sources: it numbers packets, sends them and counts them."""

from __future__ import annotations

import secrets

from orchestrator.media.report import StreamReports
from orchestrator.media.stream_socket import StreamSocket
from orchestrator.rtp.packet import HEADER_SIZE, write_header


class RtpSender:
    """``sequence`` is the number of the packet that comes next, ``payload_type`` what most packets have, ``base``
    the time stamp of the start."""

    def __init__(self, socket: StreamSocket, reports: StreamReports) -> None:
        self.payload_type = 0
        self.sequence = secrets.randbelow(1 << 15)
        self.base = secrets.randbits(32)
        self.reports = reports
        self._socket = socket

    def timestamp(self, ticks: int) -> int:
        """So many ticks after the start."""
        return (self.base + ticks) & 0xFFFFFFFF

    def send(
        self,
        packet: bytearray,
        marker: bool,
        timestamp: int,
        payload_type: int | None = None,
        sequence: int | None = None,
    ) -> None:
        """Write the header and send; with ``sequence`` a packet of that number once more."""
        if sequence is None:
            sequence = self.sequence
            self.sequence = (sequence + 1) & 0xFFFF
        reports = self.reports
        if payload_type is None:
            payload_type = self.payload_type
        write_header(packet, payload_type, marker, sequence, timestamp, reports.ssrc)
        try:
            sent = self._socket.deliver(packet)
        except OSError:
            self._socket.send_errors += 1
            return
        if sent:
            reports.packets += 1
            reports.octets += len(packet) - HEADER_SIZE
