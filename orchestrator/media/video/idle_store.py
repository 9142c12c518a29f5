"""Coded idle loops as files: digest, lengths, NAL units; the longest unused go first."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path

from visavis.service.byte_budget import beyond_budget, entries
from visavis.service.logs import Log

log = Log(__name__)

Phases = list[list[list[bytes]]]
"""NAL units by phase and position."""

_LENGTH = struct.Struct("!I")
_DIGEST_SIZE = 32


class IdleStore:
    """A folder of at most ``most_bytes``. A disk that fails costs the files, never the loops."""

    def __init__(self, folder: Path, most_bytes: int = 1 << 30) -> None:
        self._folder = folder
        self._most_bytes = most_bytes

    def load(self, name: str) -> Phases:
        """The phases kept under ``name``, empty where there are none or the file is damaged."""
        path = self._folder / f"{name}.idle"
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return []
        try:
            return _unpack(data)
        except (ValueError, TypeError, struct.error):
            log.warning("idle_loop_damaged", file=path.name)
            path.unlink(missing_ok=True)
            return []

    def save(self, name: str, phases: Phases) -> None:
        """Keep the phases under ``name``."""
        temporary = self._folder / f"{name}.{os.getpid()}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(_pack(phases))
            kept = temporary.replace(self._folder / f"{name}.idle")
            for path in beyond_budget(entries(self._folder.glob("*.idle")), self._most_bytes, {kept}):
                path.unlink(missing_ok=True)
        except OSError as error:
            log.warning("idle_loop_not_kept", reason=str(error))
            temporary.unlink(missing_ok=True)


def _pack(phases: Phases) -> bytes:
    layout = [[[len(unit) for unit in units] for units in phase] for phase in phases]
    head = json.dumps(layout, separators=(",", ":")).encode()
    body = b"".join(unit for phase in phases for units in phase for unit in units)
    return hashlib.sha256(head + body).digest() + _LENGTH.pack(len(head)) + head + body


def _unpack(data: bytes) -> Phases:
    start = _DIGEST_SIZE + _LENGTH.size
    size = _LENGTH.unpack_from(data, _DIGEST_SIZE)[0]
    head, body = data[start : start + size], data[start + size :]
    if hashlib.sha256(head + body).digest() != data[:_DIGEST_SIZE]:
        raise ValueError("the digest does not fit")
    phases: Phases = []
    at = 0
    for layout in json.loads(head):
        phase = []
        for sizes in layout:
            units = []
            for length in sizes:
                units.append(body[at : at + length])
                at += length
            phase.append(units)
        phases.append(phase)
    return phases
