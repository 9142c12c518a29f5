"""H.264 in RTP payloads (RFC 6184): Annex B split, single NAL, STAP-A, FU-A, modes 0 and 1."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable

MAX_PAYLOAD = 1200

SLICE, IDR, SEI, SPS, PPS, DELIMITER, STAP_A, FU_A = 1, 5, 6, 7, 8, 9, 24, 28
_START_CODE = re.compile(rb"\x00\x00\x01")
_LENGTH = struct.Struct("!H")


def split_annex_b(stream: bytes) -> list[bytes]:
    """NAL units of an Annex B byte stream (ITU-T H.264 annex B), without start codes."""
    starts = [match.start() for match in _START_CODE.finditer(stream)]
    ends = [*starts[1:], len(stream)]
    # A NAL never ends in zero, so zeros before a start code belong to the start code.
    units = (stream[start + 3 : end].rstrip(b"\x00") for start, end in zip(starts, ends, strict=True))
    return [unit for unit in units if unit]


def nal_type(unit: bytes) -> int:
    """``nal_unit_type`` of a NAL unit."""
    return unit[0] & 0x1F


def is_idr(units: Iterable[bytes]) -> bool:
    """Whether an access unit holds an IDR slice."""
    return any(nal_type(unit) == IDR for unit in units)


def packetize(units: Iterable[bytes], mode: int = 1, max_payload: int = MAX_PAYLOAD) -> list[bytes]:
    """RTP payloads of one access unit; the marker belongs on the last.

    Mode 0 sends each NAL unit alone (the encoder keeps slices small), mode 1 puts the parameter sets into
    one STAP-A and cuts large slices into FU-A. Access unit delimiters are left out.
    """
    payloads: list[bytes] = []
    sets: list[bytes] = []

    def flush() -> None:
        if len(sets) > 1 and 1 + sum(2 + len(unit) for unit in sets) <= max_payload:
            importance = max(unit[0] & 0x60 for unit in sets)
            body = b"".join(_LENGTH.pack(len(unit)) + unit for unit in sets)
            payloads.append(bytes((importance | STAP_A,)) + body)
        else:
            payloads.extend(sets)
        sets.clear()

    for unit in units:
        kind = nal_type(unit)
        if kind == DELIMITER:
            continue
        if mode == 1 and kind in (SEI, SPS, PPS):
            sets.append(unit)
            continue
        flush()
        if mode == 0 or len(unit) <= max_payload:
            payloads.append(unit)
        else:
            payloads.extend(_fragments(unit, max_payload))
    flush()
    return payloads


def _fragments(unit: bytes, max_payload: int) -> list[bytes]:
    room = max_payload - 2
    body = len(unit) - 1
    count = -(-body // room)
    size = -(-body // count)
    indicator, kind = (unit[0] & 0x60) | FU_A, unit[0] & 0x1F
    out = []
    for at in range(1, len(unit), size):
        flags = (0x80 if at == 1 else 0) | (0x40 if at + size >= len(unit) else 0)
        out.append(bytes((indicator, flags | kind)) + unit[at : at + size])
    return out


def depacketize(payloads: Iterable[bytes]) -> list[bytes]:
    """The NAL units in one picture's payloads, as :func:`packetize` made them."""
    units: list[bytes] = []
    for payload in payloads:
        kind = payload[0] & 0x1F
        if kind == STAP_A:
            at = 1
            while at + 2 <= len(payload):
                size = int.from_bytes(payload[at : at + 2])
                units.append(payload[at + 2 : at + 2 + size])
                at += 2 + size
        elif kind != FU_A:
            units.append(payload)
        elif payload[1] & 0x80:
            units.append(bytes(((payload[0] & 0xE0) | (payload[1] & 0x1F),)) + payload[2:])
        elif units:
            units[-1] += payload[2:]
    return units
