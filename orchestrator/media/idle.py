"""The idle loop coded once: RTP payloads that every idle call sends as they are.

A loop is coded in phases, each with one IDR: phase p's lies at ``p * loop / phases``, so that from any loop
index some phase can be entered within a second, and none pops more than once a loop. Peers that cannot ask
for a key frame get one phase with an IDR each second instead.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import struct
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass
from pathlib import Path

from orchestrator.media.encoder import H264Encoder, parameter_sets
from orchestrator.media.parameters import Encoding, VideoParameters
from orchestrator.media.scale import Fitter
from orchestrator.media.sources import Body
from orchestrator.rtp import h264
from orchestrator.rtp.packet import HEADER_SIZE

log = logging.getLogger(__name__)
SHORTEST_SECONDS = 4
_VERSION = 1
_LENGTH = struct.Struct("!I")

AccessUnit = tuple[bytearray, ...]
"""RTP packets of one picture: twelve bytes of room for the header, then the payload. Shared by all calls."""


@dataclass(frozen=True, slots=True)
class Cached:
    """Packets of one picture, to be sent as they are; ``idr`` where it is a key frame."""

    packets: AccessUnit
    idr: bool


@dataclass(frozen=True, slots=True)
class IdleKey:
    """What names a coded loop."""

    body_id: str
    encoding: Encoding
    mode: int
    periodic: bool

    def digest(self) -> str:
        """File name of the key."""
        fields = {**asdict(self), "fps": str(self.encoding.fps), "version": _VERSION}
        fields["encoding"] = {**fields["encoding"], "fps": str(self.encoding.fps)}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:40]


def idle_key(body: Body, video: VideoParameters) -> IdleKey:
    """The coded loop that a call with these parameters sends."""
    return IdleKey(body.body_id, video.encoding, video.packetization_mode, not video.asks_for_keyframes)


@dataclass(frozen=True)
class IdleLoop:
    """Access units by phase and position; a position modulo ``loop`` is its loop index.

    ``entries[i]`` is the (phase, position) of an IDR of loop index i. A short loop (a still has one frame) is
    coded several times over, so that it does not consist of key frames.
    """

    units: list[list[Cached]]
    entries: dict[int, tuple[int, int]]
    sets: tuple[bytes, ...]
    loop: int

    @property
    def length(self) -> int:
        """Positions in a phase."""
        return len(self.units[0])


def encode_phases(
    body: Body, key: IdleKey, stop: Callable[[], bool] = lambda: False
) -> list[list[list[bytes]]]:
    """NAL units by phase and loop index; empty when ``stop`` said so."""
    loop = len(body.frames)
    second = max(1, round(key.encoding.fps))
    length = loop * math.ceil(SHORTEST_SECONDS * second / loop)
    starts = [0] if key.periodic else _phase_starts(loop, second)
    phases = []
    for start in starts:
        encoder = H264Encoder(key.encoding)
        fitter = Fitter(key.encoding.width, key.encoding.height)
        phase: list[list[bytes]] = [[] for _ in range(length)]
        for step in range(length):
            if stop():
                return []
            index = (start + step) % length
            encoder.write(fitter.fit(body.frames[index % loop]))
            phase[index] = encoder.encode(idr=step == 0 or (key.periodic and step % second == 0))
        phases.append(phase)
    return phases


def _phase_starts(length: int, second: int) -> list[int]:
    count = math.ceil(length / second)
    return [length * phase // count for phase in range(count)]


def packetize_phases(phases: list[list[list[bytes]]], mode: int, loop: int) -> IdleLoop:
    """Make the shared packets. Raises ``ValueError`` where the phases differ in their parameter sets."""
    entries: dict[int, tuple[int, int]] = {}
    sets: set[tuple[bytes, ...]] = set()
    for number, phase in enumerate(phases):
        for index, units in enumerate(phase):
            if h264.is_idr(units):
                entries[index % loop] = (number, index)
                sets.add(parameter_sets(units))
    if len(sets) != 1:
        raise ValueError("the phases of an idle loop do not share their parameter sets")
    packets = [
        [
            Cached(
                tuple(bytearray(HEADER_SIZE) + payload for payload in h264.packetize(units, mode)),
                h264.is_idr(units),
            )
            for units in phase
        ]
        for phase in phases
    ]
    return IdleLoop(packets, entries, sets.pop(), loop)


class IdleCache:
    """Coded loops in memory, and as files under ``folder``; made in ``executor``, one after another."""

    def __init__(self, executor: Executor, folder: Path | None = None) -> None:
        self._executor = executor
        self._folder = folder
        self._loops: dict[IdleKey, IdleLoop] = {}
        self._pending: set[IdleKey] = set()
        self._lock = threading.Lock()
        self._closed = False

    def get(self, body: Body, key: IdleKey) -> IdleLoop | None:
        """The coded loop, or ``None`` while it is being made (which this call begins)."""
        loop = self._loops.get(key)
        if loop is None and not self._closed:
            with self._lock:
                if key in self._pending:
                    return None
                self._pending.add(key)
            self._executor.submit(self._make, body, key)
        return loop

    @property
    def ready(self) -> bool:
        """Whether everything that was asked for is there."""
        return self._pending <= self._loops.keys()

    def close(self) -> None:
        """Stop what is being made."""
        self._closed = True

    def forget(self, body_id: str) -> None:
        """Drop the loops of a body that is no longer shown."""
        for key in [key for key in self._loops if key.body_id == body_id]:
            del self._loops[key]
            self._pending.discard(key)

    def _make(self, body: Body, key: IdleKey) -> None:
        try:
            phases = self._load(key) or encode_phases(body, key, lambda: self._closed)
            if not phases:
                return
            loop = packetize_phases(phases, key.mode, len(body.frames))
            live = H264Encoder(key.encoding)
            live.write(Fitter(key.encoding.width, key.encoding.height).fit(body.frames[0]))
            if parameter_sets(live.encode(idr=True)) != loop.sets:
                raise ValueError("the idle loop and a live encoder do not share their parameter sets")
            self._store(key, phases)
            self._loops[key] = loop
        except Exception:
            # Without a coded loop calls go on with their own encoders.
            log.exception("idle loop not coded", extra={"body_id": key.body_id})

    def _path(self, key: IdleKey) -> Path | None:
        return self._folder / f"{key.digest()}.idle" if self._folder else None

    def _store(self, key: IdleKey, phases: list[list[list[bytes]]]) -> None:
        path = self._path(key)
        if path is None or path.exists():
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        layout = [[[len(unit) for unit in units] for units in phase] for phase in phases]
        head = json.dumps(layout, separators=(",", ":")).encode()
        body = b"".join(unit for phase in phases for units in phase for unit in units)
        check = hashlib.sha256(head + body).digest()
        temporary = path.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(check + _LENGTH.pack(len(head)) + head + body)
        temporary.replace(path)

    def _load(self, key: IdleKey) -> list[list[list[bytes]]]:
        path = self._path(key)
        if path is None or not path.exists():
            return []
        data = path.read_bytes()
        try:
            size = _LENGTH.unpack_from(data, 32)[0]
            head, body = data[36 : 36 + size], data[36 + size :]
            if hashlib.sha256(head + body).digest() != data[:32]:
                raise ValueError("digest")
            phases, at = [], 0
            for layout in json.loads(head):
                phase = []
                for sizes in layout:
                    units = []
                    for length in sizes:
                        units.append(body[at : at + length])
                        at += length
                    phase.append(units)
                phases.append(phase)
        except (ValueError, struct.error):
            path.unlink(missing_ok=True)
            return []
        return phases
