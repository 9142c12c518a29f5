"""The inference server without a transport: what gRPC and HTTP both show."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable

from inference_server.avatars.catalogue import Catalogue
from inference_server.avatars.store import AvatarStore
from inference_server.engine import messages as m
from inference_server.engine.process import EngineProcess
from inference_server.engine.renderer import Renderer
from inference_server.engine.residency import Residency
from inference_server.engine.scheduler import Scheduler
from inference_server.errors import RequestError, unavailable
from inference_server.gpu import GpuMetrics
from inference_server.metrics import Metrics
from inference_server.settings import MIB, Settings
from inference_server.streams.admission import SpeakingSlots, measured_slots
from inference_server.streams.ahead import AheadBudget
from inference_server.streams.opening import agree
from inference_server.streams.outbox import ResponseQueue
from inference_server.streams.path import segments_of
from inference_server.streams.pictures import Pictures
from inference_server.streams.session import Session, SessionParameters
from inference_server.streams.shares import beyond_share
from inference_server.streams.stream import Stream
from inference_server.uploads import Uploads
from visavis.avatar.v1.contract import Capacity, Open
from visavis.frames import SAMPLE_RATE
from visavis.service.logs import Log
from visavis.service.unhandled import logged

AHEAD_BYTES = 256 * MIB
IDLE_GRACE_S = 2.0  # an idle stream of a draining server may go by itself before it is ended


class Core:
    """One server. :meth:`start` it, open streams, :meth:`drain` and :meth:`close` it."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self.settings = settings
        self.log = log
        self.metrics = Metrics()
        self.gpus = GpuMetrics(log)
        self.metrics.registry.register(self.gpus)
        self.slots = SpeakingSlots()
        self.draining = False
        self.streams: dict[Stream, None] = {}
        self.on_health: list[Callable[[bool], None]] = []
        self.hopeless = ""
        """Why the engine can never load with these settings and files, one sentence."""
        self.on_hopeless: Callable[[], None] = lambda: None
        self.store = AvatarStore(
            settings.cache_dir,
            settings.cache_disk_mib * MIB,
            on_damage=lambda sentence: log.warning("cache_damaged", reason=sentence),
        )
        self.renderer = Renderer(
            self.metrics, log, Scheduler([], settings.batch_ms, settings.longest_batch_ms)
        )
        self.engine = EngineProcess(
            settings.engine,
            settings.engine_settings,
            silent_s=settings.engine_timeout_s,
            log=log,
            on_message=self._on_message,
            on_read=self._on_read,
            on_change=self._on_engine,
            on_hopeless=self._on_hopeless,
        )
        self.renderer.use(self.engine)
        self.residency = Residency(self.engine, self.store, settings.avatar_memory_mib * MIB)
        self.avatars = Catalogue(settings, self.store, self.engine, self.metrics, log)
        self.metrics.slots_total.set_function(lambda: self.slots.total)
        self.metrics.slots_used.set_function(lambda: self.slots.used)
        self.metrics.sessions.set_function(lambda: len(self.streams))
        self.metrics.avatars_resident_bytes.set_function(lambda: self.residency.nbytes)
        self.uploads = Uploads()
        self._ahead = AheadBudget(AHEAD_BYTES, AHEAD_BYTES // settings.max_sessions)
        self._numbers = itertools.count(1)
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the engine process."""
        self.engine.start()
        self.gpus.start()
        self._ticker = logged(asyncio.create_task(self._tick()), "ticker")

    async def close(self) -> None:
        """End everything."""
        for stream in list(self.streams):
            stream.end(unavailable("The server has stopped: open a stream elsewhere."))
        if self._ticker is not None:
            self._ticker.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._ticker
        self.gpus.close()
        await self.avatars.close()
        await self.engine.close()

    # --- what it is and can do ------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """New streams are welcome."""
        return self.engine.loaded is not None and not self.draining

    @property
    def not_ready_reason(self) -> str:
        """Why not."""
        if self.draining:
            return "the server is draining"
        return "" if self.engine.loaded is not None else self.engine.reason

    def capacity(self) -> Capacity:
        """Placement data now."""
        return Capacity(
            self.slots.total,
            0 if self.draining else self.slots.free,
            len(self.streams),
            self.settings.max_sessions,
            self.ready,
            self.draining,
            frozenset(self.avatars.ids),
            self.not_ready_reason,
        )

    # --- streams --------------------------------------------------------------------------------------

    async def open(self, request: Open, client: str = "") -> Stream:
        """A stream for one conversation of ``client``. Raises :class:`RequestError`."""
        self.check_open_to_new()
        self._check_room(client)
        avatar = await self.avatars.get(request.avatar_id)
        body = avatar.body
        scope = agree(request, body)
        resident = await self.residency.acquire(avatar)
        loaded = self.engine.loaded
        if loaded is None:
            self.residency.release(resident)
            raise unavailable(f"The engine is not ready ({self.engine.reason}): try again soon or elsewhere.")
        try:
            self._check_room(client)  # others may have come in meanwhile
        except RequestError:
            self.residency.release(resident)
            raise
        session_id = request.session_id[:128] or f"stream-{next(self._numbers)}"
        s = self.settings
        parameters = SessionParameters(
            session_id,
            avatar.avatar_id,
            body.fps,
            len(body),
            int(loaded.info["closing_frames"]),
            s.window_ms * SAMPLE_RATE // 1000,
            s.audio_bytes,
            s.turn_ms * SAMPLE_RATE // 1000,
            client,
            segments_of(body) if request.follows_path else None,
        )
        outbox = ResponseQueue(int(s.window_ms / 1000 * body.fps) + 8)
        session = Session(
            parameters,
            self.slots,
            new_track=self.renderer.new_track(lambda: session),
            command=self.renderer.command,
            say=lambda response: stream.say(response),
            first_frame=self.metrics.first_frame_seconds.observe,
            budget=self._ahead,
            share=lambda: self._slot_share(client),
        )
        stream = Stream(
            session,
            outbox,
            avatar,
            resident,
            Pictures(body, request.pixel_format, scope),
            self.renderer,
            self.metrics,
            self.log.bind(session_id=session_id),
            self._stream_closed,
        )
        self.streams[stream] = None
        self.renderer.add(session, resident)
        stream.log.info("stream_opened", avatar_id=avatar.avatar_id, scope=scope, pixels=request.pixel_format)
        return stream

    async def drain(self) -> None:
        """No new streams and turns; returns when the last stream has gone or at the deadline."""
        self.draining = True
        self.metrics.draining.set(1)
        self._tell_health()
        deadline = time.monotonic() + self.settings.drain_s
        self.log.info("draining", streams=len(self.streams), deadline_s=self.settings.drain_s)
        for stream in list(self.streams):
            stream.session.refuse_turns("the server is draining: take the turn elsewhere")
            stream.session.go_away("the server is draining", int(self.settings.drain_s * 1000))
        began = time.monotonic()
        while self.streams and time.monotonic() < deadline:
            if time.monotonic() - began > IDLE_GRACE_S:
                for stream in list(self.streams):
                    if not stream.session.speaking:
                        stream.end(unavailable("The server is draining: open a stream elsewhere."))
            await asyncio.sleep(0.05)

    # --------------------------------------------------------------------------------------------------

    def check_open_to_new(self) -> None:
        """Raise ``unavailable`` while nothing new can begin here."""
        if self.draining:
            raise unavailable("The server is draining: try another server.")
        if self.engine.loaded is None:
            raise unavailable(f"The engine is not ready ({self.engine.reason}): try again soon or elsewhere.")

    def _clients(self, *, speaking: bool = False) -> Counter[str]:
        """How many streams, or speaking slots, each client holds."""
        sessions = (stream.session for stream in self.streams)
        return Counter(s.parameters.client for s in sessions if s.holds_slot or not speaking)

    def _slot_share(self, client: str) -> str:
        held = self._clients(speaking=True)
        if not beyond_share(client, held, self._clients(), self.slots.total):
            return ""
        return f"this client has {held[client]} of {self.slots.total} speaking slots, its share: try another server"

    def _check_room(self, client: str) -> None:
        open_now = self._clients()
        if beyond_share(client, open_now, open_now, self.settings.max_sessions):
            raise RequestError(
                "resource_exhausted",
                f"This client has {open_now[client]} of {self.settings.max_sessions} streams, its share: try "
                "another server.",
            )
        if len(self.streams) >= self.settings.max_sessions:
            raise RequestError(
                "resource_exhausted",
                f"All {self.settings.max_sessions} streams are open: try another server.",
            )

    def _stream_closed(self, stream: Stream) -> None:
        self.streams.pop(stream, None)
        self.renderer.remove(stream.session)
        self.residency.release(stream.resident)
        stream.log.info(
            "stream_closed",
            frames=stream.session.frames,
            late=stream.session.late_so_far,
            dropped=stream.outbox.dropped,
            reason=stream.error.sentence if stream.error else "",
        )

    def _on_read(self) -> None:
        try:
            self.renderer.pump()
        except Exception:  # as below
            self.log.exception("internal_error", where="pump")

    def _on_message(self, message: m.Message) -> None:
        try:
            self._handle(message)
        except Exception:  # a mistake of ours at one message must not cost all streams
            self.log.exception("internal_error", where=type(message).__name__)

    def _handle(self, message: m.Message) -> None:
        match message:
            case m.Ready() | m.Rendered() | m.BatchLost():
                self.renderer.handle(message)
            case m.PrepareStep() | m.Failed(what="prepare"):
                self.avatars.preparation.handle(message)
            case m.Attached() | m.Failed(what="attach"):
                self.residency.handle(message)
            case m.Failed():
                self._track_failed(message)
            case m.Pong():
                self._use_costs(message.costs)
                self.metrics.engine_memory_bytes.set(message.memory_used)
            case _:
                self.log.error("engine_message_unknown", name=type(message).__name__)

    def _track_failed(self, message: m.Failed) -> None:
        """The engine cannot go on with a turn: its stream ends, the others go on."""
        self.log.error("engine_refused", what=message.what, reason=message.sentence)
        session = self.renderer.session_of(int(message.key)) if message.what == "track" else None
        for stream in list(self.streams):
            if stream.session is session:
                stream.end(RequestError("internal", f"The engine failed at this turn: {message.sentence}."))

    def _on_engine(self, loaded: m.Loaded | None, sentence: str) -> None:
        if loaded is not None:
            self._use_costs(loaded.costs)
            info = loaded.info
            self.avatars.look()
            self.log.info("engine_ready", engine=info["name"], build=info["build"], slots=self.slots.total)
        else:
            self.metrics.engine_restarts.inc()
            self.renderer.engine_down()
            self.avatars.preparation.engine_down(sentence)
            self.residency.engine_down(sentence)
            for stream in list(self.streams):
                stream.session.go_away("the engine stopped", 0)
                stream.end(unavailable("The engine stopped: open the stream again, here or elsewhere."))
        self._tell_health()

    def _on_hopeless(self, sentence: str) -> None:
        self.hopeless = sentence
        self.on_hopeless()

    def _use_costs(self, costs: list[tuple[int, float]]) -> None:
        self.renderer.scheduler.set_costs(costs)
        self.slots.total = self.settings.slots or min(
            measured_slots(costs, self.renderer.scheduler.longest_batch_ms, self.settings.slot_load),
            self.settings.max_sessions,
        )

    def _tell_health(self) -> None:
        self.metrics.ready.set(self.engine.loaded is not None)
        for tell in self.on_health:
            tell(self.ready)

    async def _tick(self) -> None:
        """Idle streams and late finishes."""
        while True:
            await asyncio.sleep(0.25)
            now = time.monotonic()
            for stream in list(self.streams):
                try:
                    stream.tick(now)
                except Exception:
                    stream.log.exception("internal_error", where="tick")
                    stream.end(RequestError("internal", "The server failed at this stream: see its log."))
                if now - stream.last_heard > self.settings.idle_ms / 1000:
                    stream.end(
                        RequestError(
                            "deadline_exceeded",
                            f"Nothing was sent for {self.settings.idle_ms} ms: open a stream when it is needed.",
                        )
                    )
