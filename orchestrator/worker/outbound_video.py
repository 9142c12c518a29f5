"""A call's coded pictures for those who watch it: what leaves for the phone, put together again."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.rtp.h264 import depacketize, is_idr
from orchestrator.rtp.packet import HEADER_SIZE
from orchestrator.worker.messages import Message, Viewed

_START_CODE = b"\0\0\0\1"


class OutboundVideo:
    """Takes packets as they are sent; a picture is told with its last one, unless the channel is ``congested``."""

    def __init__(self, call_id: str, send: Callable[[Message], None], congested: Callable[[], bool]) -> None:
        self._call_id = call_id
        self._send = send
        self._congested = congested
        self._payloads: list[bytes] = []

    def take(self, packet: bytearray, marker: bool, timestamp: int) -> None:
        """A packet of the stream; its header is not read."""
        self._payloads.append(bytes(packet[HEADER_SIZE:]))
        if not marker:
            return
        units = depacketize(self._payloads)
        self._payloads = []
        if units and not self._congested():
            data = b"".join(_START_CODE + unit for unit in units)
            self._send(Viewed(self._call_id, timestamp, is_idr(units), data))
