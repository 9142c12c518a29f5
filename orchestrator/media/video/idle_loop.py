"""The idle loop coded once: RTP payloads that every idle call sends as they are.

A loop is coded in phases whose IDRs are spread, so that from any loop index some phase can be entered within
a second, and at every index that a jump leads to at once, while none pops more often than every five or six
(once a loop, where the loop is shorter). A body of many segments jumps at most cuts anyway: half as many phases.
Peers that cannot ask for a key frame get one phase with all of these
IDRs instead.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import asdict, dataclass

from orchestrator.media.parameters import Encoding, VideoParameters
from orchestrator.media.sources import Body
from orchestrator.media.video.encoder import H264Encoder, parameter_sets
from orchestrator.media.video.idle_store import IdleStore
from orchestrator.media.video.scale import Fitter
from orchestrator.rtp import h264
from orchestrator.rtp.packet import HEADER_SIZE
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log(__name__)
SHORTEST_SECONDS = 4
MOST_PHASES = 6
_VERSION = 2

AccessUnit = tuple[bytearray, ...]
"""RTP packets of one picture: twelve bytes of room for the header, then the payload. Shared by all calls."""


@dataclass(frozen=True, slots=True)
class Cached:
    """Packets of one picture, to be sent as they are; ``idr`` where it is a key frame."""

    packets: AccessUnit
    idr: bool


@dataclass(frozen=True, slots=True)
class IdleKey:
    """What names a coded loop. ``starts``: loop indices that jumps lead to, ascending."""

    body_id: str
    encoding: Encoding
    mode: int
    periodic: bool
    starts: tuple[int, ...] = ()

    def digest(self) -> str:
        """File name of the key."""
        fields = {**asdict(self), "fps": str(self.encoding.fps), "version": _VERSION}
        fields["encoding"] = {**fields["encoding"], "fps": str(self.encoding.fps)}
        if not self.encoding.mark:  # as before there were marks: what is on disk stays of use
            del fields["encoding"]["mark"]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:40]


def idle_key(body: Body, video: VideoParameters) -> IdleKey:
    """The coded loop that a call with these parameters sends."""
    starts = tuple(sorted({target for _, target in body.jumps}))
    periodic = bool(video.key_interval) and not video.intra_refresh
    return IdleKey(body.body_id, video.encoding, video.packetization_mode, periodic, starts)


def entry_points(loop: int, second: int, starts: tuple[int, ...]) -> list[int]:
    """Loop indices with an IDR, ascending: every start, and others so that none is more than a second away."""
    firm = starts or (0,)
    points = []
    for start, end in zip(firm, (*firm[1:], firm[0] + loop), strict=True):
        parts = math.ceil((end - start) / second)
        points += [(start + (end - start) * part // parts) % loop for part in range(parts)]
    return sorted(points)


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
    entries = entry_points(loop, second, key.starts)
    if key.periodic:
        laps = range(0, length, loop)
        plans = [[lap + entry for lap in laps for entry in entries]]
        if loop < second:
            plans = [list(range(0, length, second))]
    else:
        many = len(key.starts) > MOST_PHASES
        count = min(len(entries), MOST_PHASES // 2 if many else MOST_PHASES)
        plans = [entries[phase::count] for phase in range(count)]
    phases = []
    for plan in plans:
        encoder = H264Encoder(key.encoding)
        fitter = Fitter(key.encoding.width, key.encoding.height)
        phase: list[list[bytes]] = [[] for _ in range(length)]
        for step in range(length):
            if stop():
                return []
            index = (plan[0] + step) % length
            encoder.write(fitter.fit(body.frames[index % loop]))
            phase[index] = encoder.encode(idr=index in plan)
        phases.append(phase)
    return phases


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


def _packed_size(phases: list[list[list[bytes]]]) -> int:
    return sum(len(unit) for phase in phases for units in phase for unit in units)


FAILED_KEPT = 256


class IdleCache:
    """Coded loops in memory (the least recently wanted go first), and on disk; made one after another."""

    def __init__(
        self, executor: Executor, store: IdleStore | None = None, most_bytes: int = 256 << 20
    ) -> None:
        self._executor = executor
        self._store = store
        self._most_bytes = most_bytes
        self._loops: OrderedDict[IdleKey, tuple[IdleLoop, int]] = OrderedDict()
        self._pending: set[IdleKey] = set()
        self._failed: OrderedDict[IdleKey, None] = OrderedDict()  # the last ones
        self._lock = threading.Lock()
        self._closed = False

    def get(self, body: Body, key: IdleKey) -> IdleLoop | None:
        """The coded loop, or ``None`` while it is being made (which this call begins) or cannot be."""
        with self._lock:
            entry = self._loops.get(key)
            if entry is not None:
                self._loops.move_to_end(key)
                return entry[0]
            if self._closed or key in self._pending or key in self._failed:
                return None
            self._pending.add(key)
        logged(self._executor.submit(self._make, body, key), "idle loop")
        return None

    @property
    def ready(self) -> bool:
        """Whether nothing is being made."""
        return not self._pending

    def close(self) -> None:
        """Stop what is being made."""
        self._closed = True

    def _make(self, body: Body, key: IdleKey) -> None:
        made: tuple[IdleLoop, int] | None = None
        try:
            kept = self._store.load(key.digest()) if self._store else []
            phases = kept or encode_phases(body, key, lambda: self._closed)
            if phases:
                loop = packetize_phases(phases, key.mode, len(body.frames))
                live = H264Encoder(key.encoding)
                live.write(Fitter(key.encoding.width, key.encoding.height).fit(body.frames[0]))
                if parameter_sets(live.encode(idr=True)) != loop.sets:
                    raise ValueError("the idle loop and a live encoder do not share their parameter sets")
                made = loop, _packed_size(phases)
                if self._store and not kept:
                    self._store.save(key.digest(), phases)
        except Exception:
            # Without a coded loop calls go on with their own encoders.
            log.exception("idle_loop_not_coded", body_id=key.body_id)
        with self._lock:
            self._pending.discard(key)
            if made is None:
                self._failed[key] = None
                if len(self._failed) > FAILED_KEPT:
                    self._failed.popitem(last=False)
                return
            self._loops[key] = made
            while len(self._loops) > 1 and sum(size for _, size in self._loops.values()) > self._most_bytes:
                self._loops.popitem(last=False)
