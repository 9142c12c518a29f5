"""RTCP of one stream: what we report, and what the peer reports of us."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from orchestrator.rtp import rtcp
from orchestrator.rtp.rtcp import RtcpPacket
from orchestrator.rtp.stats import Reception, round_trip, to_ntp


@dataclass(slots=True)
class PeerView:
    """What the peer says it received; ``None`` until it has said so. Loss in packets and as a share."""

    lost: int | None = None
    fraction_lost: float | None = None
    jitter_ticks: int | None = None
    round_trip: float | None = None
    reports: int = 0


class StreamReports:
    """Counts what is sent and speaks RTCP for one of our own sources."""

    def __init__(self, cname: str) -> None:
        self.ssrc = secrets.randbits(32)
        self.cname = cname
        self.packets = 0
        self.octets = 0
        self.peer = PeerView()

    def build(self, unix: float, timestamp: int, block: rtcp.ReportBlock | None) -> bytes:
        """SR (RR before anything was sent) and SDES; ``timestamp`` is the RTP time of ``unix``."""
        blocks = (block,) if block else ()
        report: RtcpPacket
        if self.packets:
            report = rtcp.SenderReport(
                self.ssrc, to_ntp(unix), timestamp & 0xFFFFFFFF, self.packets, self.octets, blocks
            )
        else:
            report = rtcp.ReceiverReport(self.ssrc, blocks)
        return rtcp.build(report, rtcp.SourceDescription(self.ssrc, self.cname))

    def goodbye(self) -> bytes:
        """BYE in a compound packet of its own."""
        return rtcp.build(
            rtcp.ReceiverReport(self.ssrc),
            rtcp.SourceDescription(self.ssrc, self.cname),
            rtcp.Goodbye((self.ssrc,)),
        )

    def notify_limit(self, bits_per_second: int, owner: int) -> bytes:
        """TMMBN in a compound packet: the limit that now holds, and whose it is (RFC 5104 section 4.2.2)."""
        return rtcp.build(
            rtcp.ReceiverReport(self.ssrc),
            rtcp.SourceDescription(self.ssrc, self.cname),
            rtcp.BitrateNotice(self.ssrc, bits_per_second, owner),
        )

    def take(self, data: bytes, unix: float) -> list[RtcpPacket]:
        """Parse what the peer sent and note its view of us; raises ``MalformedPacket``."""
        packets = rtcp.parse(data)
        for packet in packets:
            if isinstance(packet, rtcp.SenderReport | rtcp.ReceiverReport):
                for block in packet.blocks:
                    if block.ssrc == self.ssrc:
                        self._note(block, unix)
        return packets

    def _note(self, block: rtcp.ReportBlock, unix: float) -> None:
        peer = self.peer
        peer.reports += 1
        peer.lost, peer.fraction_lost, peer.jitter_ticks = block.lost, block.fraction_lost / 256, block.jitter
        trip = round_trip(to_ntp(unix), block.lsr, block.dlsr)
        peer.round_trip = trip if trip is not None else peer.round_trip

    @staticmethod
    def note_sender(packet: RtcpPacket, reception: Reception, now: float) -> None:
        """Remember a sender report for LSR and DLSR."""
        if isinstance(packet, rtcp.SenderReport):
            reception.sender_report(packet.ntp, now)
