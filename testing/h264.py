"""H.264 as receivers take it: access units out of RTP payloads (RFC 6184), and as decoders want them."""

from __future__ import annotations

import struct
from collections.abc import Iterable

from orchestrator.rtp.h264 import FU_A, STAP_A

_LENGTH = struct.Struct("!H")


class Depacketizer:
    """Access units out of RTP payloads; a damaged one is dropped and counted."""

    def __init__(self) -> None:
        self.damaged = 0
        self._units: list[bytes] = []
        self._fragment: bytearray | None = None
        self._broken = False
        self._timestamp: int | None = None
        self._expected: int | None = None

    def push(
        self, sequence: int, timestamp: int, marker: bool, payload: bytes
    ) -> tuple[int, list[bytes]] | None:
        """Take one packet in sequence order; ``(timestamp, NAL units)`` when an access unit is whole."""
        if self._expected is not None and sequence != self._expected:
            self._broken = True
        self._expected = (sequence + 1) & 0xFFFF
        if timestamp != self._timestamp:
            if self._units or self._fragment is not None:
                self.damaged += 1
            self._units, self._fragment = [], None
            self._timestamp = timestamp
        self._take(payload)
        if not marker:
            return None
        units, whole = self._units, not self._broken and self._fragment is None
        self._units, self._fragment, self._broken = [], None, False
        if whole and units:
            return timestamp, units
        self.damaged += 1
        return None

    def _take(self, payload: bytes) -> None:
        if not payload:
            return
        kind = payload[0] & 0x1F
        if kind == STAP_A:
            at = 1
            while at + 2 <= len(payload):
                (size,) = _LENGTH.unpack_from(payload, at)
                if not size or at + 2 + size > len(payload):
                    self._broken = True
                    return
                self._units.append(payload[at + 2 : at + 2 + size])
                at += 2 + size
        elif kind == FU_A:
            if len(payload) < 3:
                self._broken = True
                return
            if payload[1] & 0x80:
                self._fragment = bytearray(((payload[0] & 0x60) | (payload[1] & 0x1F),))
            if self._fragment is None:
                self._broken = True
                return
            self._fragment += payload[2:]
            if payload[1] & 0x40:
                self._units.append(bytes(self._fragment))
                self._fragment = None
        elif 1 <= kind <= 23:
            self._units.append(payload)
        else:
            self._broken = True


def annex_b(units: Iterable[bytes]) -> bytes:
    """NAL units with start codes, as decoders take them."""
    return b"".join(b"\x00\x00\x00\x01" + unit for unit in units)
