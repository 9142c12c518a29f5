"""A call's coded pictures for those who watch it: what leaves for the phone, put together again."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.rtp.h264 import depacketize, is_idr
from orchestrator.rtp.packet import HEADER_SIZE
from orchestrator.worker.messages import Message, Viewed

_START_CODE = b"\0\0\0\1"


class OutboundVideo:
    """Takes packets as they are sent; a picture is told with its last one, unless the channel is ``congested``:
    then none is before the next key frame. ``start``: see ``Viewed``."""

    def __init__(
        self,
        call_id: str,
        send: Callable[[Message], None],
        congested: Callable[[], bool],
        start: Callable[[], int] = lambda: 0,
    ) -> None:
        self._call_id = call_id
        self._start = start
        self._waits = False
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
        key = is_idr(units)
        if not units or self._congested():
            self._waits = True  # what follows refers to it
        elif key or not self._waits:
            self._waits = False
            data = b"".join(_START_CODE + unit for unit in units)
            self._send(Viewed(self._call_id, timestamp, key, data, self._start()))
