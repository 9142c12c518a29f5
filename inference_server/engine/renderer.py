"""Sessions, scheduler and engine process wired together, on the event loop of the front."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from inference_server.engine import messages as m
from inference_server.engine.process import EngineProcess
from inference_server.engine.scheduler import Batch, Scheduler
from inference_server.metrics import Metrics
from inference_server.streams.session import Session
from inference_server.streams.turn import FrameJob, TurnFrames
from visavis.frames import Rect
from visavis.service.logs import Log


@dataclass(slots=True)
class _UnderWay:
    batch: Batch
    lane: int
    places: list[tuple[int, int]]  # offset and size of each row
    sent: float


@dataclass(slots=True)
class Resident:
    """A prepared avatar attached to the engine."""

    avatar_id: str
    largest: Rect
    rects: list[Rect]
    nbytes: int
    users: int = 0


class Renderer:
    """Draws what sessions want, most urgent first. Call :meth:`touch` after a request."""

    def __init__(
        self,
        metrics: Metrics,
        log: Log,
        scheduler: Scheduler,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.scheduler = scheduler
        self.queue_ms: deque[float] = deque(maxlen=200)
        self.render_ms: deque[float] = deque(maxlen=200)
        self._metrics = metrics
        self._log = log
        self._clock = clock
        self._engine: EngineProcess | None = None
        self._sessions: dict[Session, Resident] = {}
        self._due: dict[Session, None] = {}  # those that have a frame to draw now
        self._tracks: dict[int, Session] = {}
        self._numbers = itertools.count(1)
        self._batches: dict[int, _UnderWay] = {}
        self._pumping = False

    def use(self, engine: EngineProcess) -> None:
        """The engine process that draws."""
        self._engine = engine

    # --- sessions -------------------------------------------------------------------------------------

    def add(self, session: Session, resident: Resident) -> None:
        """Draw for this session too."""
        self._sessions[session] = resident

    def remove(self, session: Session) -> None:
        """The session is gone."""
        self._sessions.pop(session, None)
        self._due.pop(session, None)
        for track in [t for t, owner in self._tracks.items() if owner is session]:
            del self._tracks[track]
        self.pump()

    def touch(self, session: Session) -> None:
        """Something happened to the session: it may have a frame to draw."""
        if self._look(session):
            self.pump()

    def _look(self, session: Session) -> bool:
        """Whether the session has a frame to draw, which is then remembered."""
        due = session in self._sessions and next(session.turns_due(), None) is not None
        if due:
            self._due[session] = None
        return due

    def new_track(self, session: Callable[[], Session]) -> Callable[[], int]:
        """Numbers for the tracks of a session."""

        def number() -> int:
            track = next(self._numbers)
            self._tracks[track] = session()
            return track

        return number

    def session_of(self, track: int) -> Session | None:
        """Whose turn this is."""
        return self._tracks.get(track)

    def command(self, message: m.Message) -> None:
        """A session's message to the engine."""
        if isinstance(message, m.CloseTrack):
            self._tracks.pop(message.track, None)
        if self._engine is not None:
            self._engine.send(message)

    # --- the engine -----------------------------------------------------------------------------------

    def engine_down(self) -> None:
        """Everything under way is lost."""
        self._batches.clear()
        self._due.clear()
        self.scheduler.clear()

    def handle(self, message: m.Ready | m.Rendered | m.BatchLost) -> None:
        """A message of the engine process about drawing; :meth:`pump` after the last one at hand."""
        now = self._clock()
        match message:
            case m.Ready():
                session = self._tracks.get(message.track)
                if session is not None:
                    session.track_ready(message.track, message.frames, message.ended, now, message.level)
                    self._look(session)
            case m.Rendered():
                self._rendered(message, now)
            case m.BatchLost():
                self._lost(message, now)

    def _rendered(self, message: m.Rendered, now: float) -> None:
        under_way = self._batches.pop(message.batch, None)
        if under_way is None or self._engine is None:
            return
        ring = self._engine.ring
        self.render_ms.append((now - under_way.sent) * 1000)
        self._metrics.batch_seconds.observe(message.ms / 1000)
        self._metrics.batch_rows.observe(len(under_way.batch.jobs))
        for job, place, (kind, rect, error) in zip(
            under_way.batch.jobs, under_way.places, message.results, strict=True
        ):
            pixels = None
            area = Rect(*rect) if rect is not None else None
            if kind == "mouth" and (area is None or area.i420_size > place[1]):
                kind, error = "failed", "the engine named a rectangle that is not the row's"
            if kind == "mouth" and area is not None and job.turn.wanted(job):
                pixels = bytes(ring.view(place[0], area.i420_size))
            if kind == "failed":
                self._log.warning("frame_failed", frame=job.frame, reason=error)
            self._metrics.frames.labels(kind).inc()
            self._return(job, kind, area if pixels is not None else None, pixels, now)
        ring.give(under_way.lane)

    def _lost(self, message: m.BatchLost, now: float) -> None:
        under_way = self._batches.pop(message.batch, None)
        if under_way is None or self._engine is None:
            return
        self._engine.ring.give(under_way.lane)
        self._metrics.batches_failed.inc()
        self._log.warning("batch_failed", rows=len(under_way.batch.jobs), reason=message.sentence)
        for job in self.scheduler.failed(under_way.batch):
            self._metrics.frames.labels("failed").inc()
            self._return(job, "failed", None, None, now)

    def _return(self, job: FrameJob, kind: str, rect: Rect | None, pixels: bytes | None, now: float) -> None:
        session = self._tracks.get(job.turn.track)
        if session is not None:
            session.rendered(job, kind, rect, pixels, now)
            self._look(session)

    # --- batches --------------------------------------------------------------------------------------

    def pump(self) -> None:
        """Hand out batches while the engine takes them."""
        engine = self._engine
        if engine is None or engine.loaded is None or self._pumping:
            return
        self._pumping = True
        try:
            now = self._clock()
            for job in self.scheduler.abandoned():
                self._return(job, "dropped", None, None, now)
            while (lane := engine.ring.take()) is not None:
                batch = self.scheduler.next_batch(self._turns_due(), now)
                if batch is None:
                    engine.ring.give(lane)
                    return
                self._send(engine, batch, lane, now)
        finally:
            self._pumping = False

    def _turns_due(self) -> Iterator[TurnFrames]:
        for session in list(self._due):
            idle = True
            for turn in session.turns_due():
                idle = False
                yield turn
            if idle:
                del self._due[session]

    def _send(self, engine: EngineProcess, batch: Batch, lane: int, now: float) -> None:
        sizes = [self._size(job) for job in batch.jobs]
        offsets = engine.ring.offsets(lane, sizes)
        if len(offsets) < len(sizes):
            self.scheduler.put_back(batch.jobs[len(offsets) :], batch.failures)
            batch = Batch(batch.jobs[: len(offsets)], batch.failures)
        number = next(self._numbers)
        places = list(zip(offsets, sizes, strict=False))
        self._batches[number] = _UnderWay(batch, lane, places, now)
        for job in batch.jobs:
            since = job.turn.due_since
            self.queue_ms.append((now - since) * 1000 if since is not None else 0.0)
            job.turn.note_due(now)
        engine.send(
            m.Render(
                number,
                [
                    (job.turn.track, job.source, job.loop_index, round(job.alpha, 4), *place)
                    for job, place in zip(batch.jobs, places, strict=True)
                ],
            )
        )

    def _size(self, job: FrameJob) -> int:
        session = self._tracks.get(job.turn.track)
        resident = self._sessions.get(session) if session is not None else None
        return resident.rects[job.loop_index].i420_size if resident is not None else 0
