"""Packets of our own sources: numbered, stamped, and counted once they are out."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from orchestrator.media.report import StreamReports
from orchestrator.media.sender import RtpSender
from orchestrator.rtp import packet


def test_packets_are_numbered_and_counted_once_they_are_out() -> None:
    out: list[packet.RtpPacket] = []
    answers = iter((20, 0, 20, None))

    def deliver(data: bytearray) -> int:
        out.append(packet.parse(bytes(data)))
        answer = next(answers)
        if answer is None:
            raise OSError("no route")
        return answer

    socket: Any = SimpleNamespace(deliver=deliver, send_errors=0)
    sender = RtpSender(socket, StreamReports("us"))
    sender.payload_type, sender.sequence = 96, 0xFFFF
    data = bytearray(packet.HEADER_SIZE) + b"payload!"
    sender.send(data, True, sender.timestamp(160))
    sender.send(data, False, sender.timestamp(320), payload_type=0)
    sender.send(data, False, sender.timestamp(160), sequence=0xFFFF)
    sender.send(data, False, sender.timestamp(480))
    assert [p.sequence for p in out] == [0xFFFF, 0, 0xFFFF, 1]
    assert [p.payload_type for p in out] == [96, 0, 96, 96]
    assert (out[1].timestamp - out[0].timestamp) & 0xFFFFFFFF == 160
    assert out[2].timestamp == out[0].timestamp
    assert [p.marker for p in out] == [True, False, False, False]
    assert {p.ssrc for p in out} == {sender.reports.ssrc}
    assert (sender.reports.packets, sender.reports.octets, socket.send_errors) == (2, 16, 1)
