"""The inference server in simulated time: its sessions, scheduler, renderer and engine worker are the real ones;
the clock, the device and the callers are not.

The front and the engine process are two actors that run beside each other. A message between them takes ``HOP_S``,
one between a caller and the front ``WIRE_S``. The device runs one batch or preparation step at a time.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_server.engine import messages as m
from inference_server.engine.renderer import Renderer, Resident
from inference_server.engine.scheduler import Scheduler
from inference_server.engine.worker import EngineWorker
from inference_server.engines import base
from inference_server.metrics import Metrics
from inference_server.settings import Settings
from inference_server.streams.admission import SpeakingSlots, measured_slots
from inference_server.streams.responses import Response
from inference_server.streams.session import Session, SessionParameters
from visavis.frames import SAMPLE_RATE, Rect, frame_at
from visavis.service.logs import Log

HOP_S = 0.0005  # front to engine process and back
WIRE_S = 0.001  # caller to front and back
HOST_S = 0.0005  # of the engine's thread, per batch
AVATAR = "avatar"
BATCH_MS, LONGEST_MS = (Settings.model_fields[name].default for name in ("batch_ms", "longest_batch_ms"))
RECT = Rect(0, 0, 2, 2)
CLOSING = 3


class Clock:
    """``now`` in seconds; every actor moves its own on while it works."""

    now = 0.0


@dataclass
class Track:
    """Counts samples; ready as MuseTalk with 100 ms of audio after a frame."""

    fps: Fraction
    look_ahead: int
    heard: int = 0
    ended: bool = False

    def append(self, pcm: NDArray[np.int16]) -> None:
        self.heard += len(pcm)

    def end(self) -> None:
        self.ended = True

    def ready(self) -> int:
        if self.ended:
            return frame_at(self.heard - 1, self.fps) + 1 if self.heard else 0
        return max(0, frame_at(self.heard - self.look_ahead, self.fps)) if self.heard > self.look_ahead else 0

    def close(self) -> None:
        pass


@dataclass
class Ticket:
    """A batch on the device."""

    finished: float
    results: list[base.Result]


class Device:
    """The engine interface over a device that takes ``costs`` milliseconds a bucket."""

    def __init__(self, clock: Clock, costs: Mapping[int, float], step_ms: float, steps: int) -> None:
        self.info = base.EngineInfo("simulated", "1", SAMPLE_RATE // 10, 0, tuple(costs), CLOSING)
        self._busy_s = 0.0
        self.steps_done = 0
        self._clock = clock
        self._costs = dict(costs)
        self._step_s, self._steps = step_ms / 1000, steps
        self._free = 0.0

    def cost_ms(self, rows: int) -> float:
        return self._costs[min(b for b in self._costs if b >= rows)]

    def track(self, handle: object, fps: Fraction, origin: int) -> Track:
        return Track(fps, self.info.look_ahead)

    def submit(self, rows: Sequence[base.Row]) -> Ticket:
        self._clock.now += HOST_S
        self._free = self._run(self.cost_ms(len(rows)) / 1000)
        return Ticket(self._free, [base.Result("mouth", RECT)] * len(rows))

    def collect(self, ticket: Ticket, wait_s: float) -> list[base.Result] | None:
        left = ticket.finished - self._clock.now
        self._clock.now += max(0.0, min(left, wait_s))
        return ticket.results if left <= wait_s else None

    def prepare(self, body: object, settings: object) -> Iterator[float]:
        """Each step waits for the device, as one that brings its result to the host does."""
        for _ in range(self._steps):
            self._free = self._clock.now = self._run(self._step_s)
            self.steps_done += 1
            yield 0.5

    @property
    def load(self) -> float:
        """Share of the time that the device was busy with anything."""
        return self._busy_s / max(self._clock.now, 1e-9)

    def _run(self, seconds: float) -> float:
        self._busy_s += seconds
        return max(self._clock.now, self._free) + seconds


class World(Clock):
    """Server and time. ``at(when, what)`` and :meth:`run`; callers open a :class:`Session` by :meth:`session`."""

    def __init__(
        self,
        costs: Mapping[int, float],
        fps: Fraction = Fraction(25),
        load: float = 0.75,
        step_ms: float = 0.0,
        steps: int = 0,
    ) -> None:
        self.fps = fps
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._clock = Clock()  # of the engine process
        self.device = Device(self._clock, costs, step_ms, steps)
        self._worker = _Worker(self.device, self._from_worker)
        self._inbox: list[m.Message] = []
        self._woken = False
        pairs = list(costs.items())
        scheduler = Scheduler(pairs, BATCH_MS, LONGEST_MS)
        self.renderer = Renderer(Metrics(), Log("bench"), scheduler, lambda: self.now)
        ring: Any = _Ring()
        self.renderer.use(SimpleNamespace(loaded=True, ring=ring, send=self._to_worker))  # type: ignore[arg-type]
        self.slots = SpeakingSlots(measured_slots(pairs, LONGEST_MS, load))
        self._resident = Resident(AVATAR, RECT, [RECT] * 125, 0)
        if steps:
            self._worker.prepare()
            self._wake()

    def at(self, when: float, what: Callable[[], None]) -> None:
        """Do something then."""
        heapq.heappush(self._events, (when, next(self._order), what))

    def run(self, until: float) -> None:
        """Everything up to then."""
        while self._events and self._events[0][0] <= until:
            self.now, _, what = heapq.heappop(self._events)
            what()

    def session(self, name: str, say: Callable[[Response], None]) -> Session:
        """A stream; what it says reaches the caller a little later."""
        parameters = SessionParameters(name, AVATAR, self.fps, 125, CLOSING, 6400, 640_000, 600 * SAMPLE_RATE)
        session = Session(
            parameters,
            self.slots,
            new_track=self.renderer.new_track(lambda: session),
            command=self.renderer.command,
            say=lambda response: self.at(self.now + WIRE_S, lambda: say(response)),
        )
        self.renderer.add(session, self._resident)
        return session

    # --- the engine process ---------------------------------------------------------------------------

    def _to_worker(self, message: m.Message) -> None:
        def arrive() -> None:
            self._inbox.append(message)
            self._wake()

        self.at(self.now + HOP_S, arrive)

    def _from_worker(self, message: m.Message) -> None:
        if isinstance(message, m.Ready | m.Rendered | m.BatchLost):
            self.at(self._clock.now + HOP_S, lambda: self.renderer.handle(message))
            self.at(self._clock.now + HOP_S, self.renderer.pump)

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self.at(max(self.now, self._clock.now), self._work)

    def _work(self) -> None:
        """Once round the worker's loop, which takes the time that its clock moves on."""
        self._woken = False
        self._clock.now = self.now
        messages, self._inbox = self._inbox, []
        for message in messages:
            self._worker.handle(message)
        self._worker.work()
        if self._inbox or self._worker.pause_s is not None:
            self._wake()


class _Worker(EngineWorker):
    """The engine process's loop with no socket."""

    def __init__(self, engine: Any, told: Callable[[m.Message], None]) -> None:
        nothing: Any = None
        ring: Any = _Ring()
        super().__init__(engine, nothing, ring)
        self._told = told
        self._handles[AVATAR] = nothing

    def prepare(self) -> None:
        """A preparation, to be done while nothing live is due."""
        self._preparations.begin(1, self._engine.prepare(None, {}), Path())  # type: ignore[arg-type]

    def _send(self, message: m.Message) -> None:
        self._told(message)


class _Ring:
    """Two lanes without memory."""

    def __init__(self) -> None:
        self._free = [0, 1]

    def take(self) -> int | None:
        return self._free.pop() if self._free else None

    def give(self, lane: int) -> None:
        self._free.append(lane)

    def offsets(self, lane: int, sizes: Sequence[int]) -> list[int]:
        return [0] * len(sizes)

    def view(self, offset: int, size: int) -> memoryview:
        return memoryview(bytes(size))
