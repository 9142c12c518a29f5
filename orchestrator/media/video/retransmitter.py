"""Packets that a phone misses are sent again: a few a slot, as they were or in an RTX stream."""

from __future__ import annotations

from collections import deque

from orchestrator.media.clock import VIDEO, MediaClock
from orchestrator.media.parameters import VideoParameters
from orchestrator.media.report import StreamReports
from orchestrator.media.sender import RtpSender
from orchestrator.media.stream_socket import StreamSocket
from orchestrator.rtp.h264 import MAX_PAYLOAD
from orchestrator.rtp.history import Sent, SentPackets
from orchestrator.rtp.packet import HEADER_SIZE
from orchestrator.rtp.rtx import retransmission

SLOT_OCTETS = 2 * MAX_PAYLOAD
_LEAST_PER_SECOND = 20.0
_ALERT_SECONDS = 5.0


class Retransmitter:
    """Answers generic NACK (RFC 4585 section 6.2.1) for one video stream.

    What is asked for at once leaves at ``SLOT_OCTETS`` a slot, two large packets: the path that has just lost some
    is not given a burst. A path that loses once loses again: for a while the next NACK is looked for in every slot,
    not only in those that have packets to send.
    """

    def __init__(self, clock: MediaClock, socket: StreamSocket, sender: RtpSender) -> None:
        self.history = SentPackets(0)
        self._clock = clock
        self._socket = socket
        self._sender = sender
        self._rtx: RtpSender | None = None
        self._waiting: deque[Sent] = deque()
        self._pumping = False
        self._slot, self._room = -1, 0

    def agree(self, parameters: VideoParameters) -> None:
        """Take what was negotiated: at most half as much again as the stream itself is repeated."""
        asked, repeated = self.history.asked, self.history.repeated
        self.history = SentPackets(max(_LEAST_PER_SECOND, parameters.bitrate / 8 / MAX_PAYLOAD / 2))
        self.history.asked, self.history.repeated = asked, repeated
        self._waiting.clear()
        number = parameters.rtx_payload_type
        if number is None:
            self._rtx = None
        else:
            self._rtx = self._rtx or RtpSender(self._socket, StreamReports(self._sender.reports.cname))
            self._rtx.payload_type = number

    def ask(self, missing: tuple[int, ...], now: float) -> None:
        """A NACK came."""
        self._waiting.extend(self.history.wanted(missing, now))
        wheel = self._clock.wheel
        wheel.alert_until = max(wheel.alert_until, now + _ALERT_SECONDS)
        self._send_waiting(wheel.slot)
        if self._waiting and not self._pumping:
            self._pumping = True
            wheel.add(VIDEO, wheel.slot + 1, self._pump)

    def stop(self) -> None:
        """Nothing more is repeated; says BYE for the RTX stream."""
        self._waiting.clear()
        if self._rtx is not None and self._rtx.reports.packets:
            self._socket.send_rtcp(self._rtx.reports.goodbye())

    def report(self, unix: float, timestamp: int) -> None:
        """The sender report of the RTX stream, once there is one."""
        if self._rtx is not None and self._rtx.reports.packets:
            self._socket.send_rtcp(self._rtx.reports.build(unix, timestamp, None))

    def _pump(self, slot: int, now: float) -> int | None:
        self._send_waiting(slot)
        self._pumping = bool(self._waiting)
        return slot + 1 if self._pumping else None

    def _send_waiting(self, slot: int) -> None:
        if slot != self._slot:
            self._slot, self._room = slot, SLOT_OCTETS
        while self._waiting and self._room > 0:
            sent = self._waiting.popleft()
            self._room -= len(sent.packet) - HEADER_SIZE
            self._send(sent)

    def _send(self, sent: Sent) -> None:
        if self._rtx is not None:
            self._rtx.send(retransmission(sent), sent.marker, sent.timestamp)
        else:  # the header is written anew: cached packets are shared by all calls
            self._sender.send(sent.packet, sent.marker, sent.timestamp, sequence=sent.sequence)
