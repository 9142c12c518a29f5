"""The inference server without a transport: what gRPC and HTTP both show."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import Callable

from inference_server.avatars.catalogue import Catalogue
from inference_server.avatars.store import AvatarStore, StoredAvatar
from inference_server.engine import messages as m
from inference_server.engine.device import EngineDevice
from inference_server.engine.devices import EngineDevices
from inference_server.engine.renderer import Resident
from inference_server.engines.base import Device
from inference_server.errors import RequestError, unavailable
from inference_server.gpu import GpuMetrics
from inference_server.metrics import Metrics
from inference_server.settings import MIB, Settings
from inference_server.streams.ahead import AheadBudget
from inference_server.streams.opening import agree
from inference_server.streams.outbox import ResponseQueue
from inference_server.streams.path import segments_of
from inference_server.streams.pictures import Pictures
from inference_server.streams.session import Session, SessionParameters
from inference_server.streams.shares import beyond_share
from inference_server.streams.stream import Stream
from inference_server.streams.stream_devices import StreamDevices
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
        self.devices = EngineDevices(self._device, log)
        self.avatars = Catalogue(settings, self.store, self.devices, self.metrics, log)
        self.metrics.slots_total.set_function(lambda: self.slots)
        self.metrics.slots_used.set_function(lambda: self.devices.slots_used)
        self.metrics.engine_memory_bytes.set_function(lambda: sum(d.memory_used for d in self.devices))
        self.metrics.devices.set_function(lambda: len(self.devices))
        self.metrics.sessions.set_function(lambda: len(self.streams))
        self.metrics.avatars_resident_bytes.set_function(lambda: self.devices.avatar_bytes)
        self.uploads = Uploads(self.store.scratch, self.store.unwritable)
        self._ahead = AheadBudget(AHEAD_BYTES, AHEAD_BYTES // settings.max_sessions)
        self._numbers = itertools.count(1)
        self._ticker: asyncio.Task[None] | None = None
        self._spreading: set[asyncio.Task[None]] = set()

    def _device(self, device: Device, on_devices: Callable[[list[Device]], None]) -> EngineDevice:
        return EngineDevice(
            device,
            self.settings,
            self.store,
            self.metrics,
            self.log,
            on_message=self._on_message,
            on_change=self._on_engine,
            on_devices=on_devices,
            on_hopeless=self._on_hopeless,
        )

    def start(self) -> None:
        """Start the engine processes."""
        self.devices.start()
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
        for task in self._spreading:
            task.cancel()
        await asyncio.gather(*self._spreading, return_exceptions=True)
        await self.avatars.close()
        await self.devices.close()

    # --- what it is and can do ------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """New streams are welcome."""
        return self.devices.loaded is not None and not self.draining

    @property
    def not_ready_reason(self) -> str:
        """Why not, or which of several devices cannot draw."""
        return "the server is draining" if self.draining else self.devices.reason

    @property
    def slots(self) -> int:
        """Streams that may speak at once."""
        return min(self.devices.slots, self.settings.max_sessions)

    def capacity(self) -> Capacity:
        """Placement data now."""
        return Capacity(
            self.slots,
            0 if self.draining else min(self.devices.slots_free, self.slots),
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
        device, resident = await self._acquire(avatar)
        loaded = device.engine.loaded
        if loaded is None:
            device.residency.release(resident)
            raise unavailable(f"The engine is not ready ({device.why_not}): try again soon or elsewhere.")
        try:
            self._check_room(client)  # others may have come in meanwhile
        except RequestError:
            device.residency.release(resident)
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
        devices = StreamDevices(device, resident, lambda: session)
        session = Session(
            parameters,
            devices,
            new_track=devices.new_track,
            command=devices.command,
            say=lambda response: stream.say(response),
            first_frame=self.metrics.first_frame_seconds.observe,
            budget=self._ahead,
            share=lambda: self._slot_share(client),
        )
        stream = Stream(
            session,
            outbox,
            avatar,
            devices,
            Pictures(body, request.pixel_format, scope),
            self.metrics,
            self.log.bind(session_id=session_id),
            self._stream_closed,
        )
        self.streams[stream] = None
        self._spread(stream)
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
        if self.devices.loaded is None:
            raise unavailable(
                f"The engine is not ready ({self.devices.reason}): try again soon or elsewhere."
            )

    async def _acquire(self, avatar: StoredAvatar) -> tuple[EngineDevice, Resident]:
        """The avatar on the least loaded device that takes it. Raises as the last one refuses."""
        refused = unavailable(
            f"The engine is not ready ({self.devices.reason}): try again soon or elsewhere."
        )
        for device in self.devices.usable:
            try:
                return device, await device.residency.acquire(avatar)
            except RequestError as error:
                refused = error
        raise refused

    def _spread(self, stream: Stream) -> None:
        """Bring the stream's avatar to the devices that lack it, so that its turns can be drawn on any."""
        for device in self.devices.usable:
            if device not in stream.devices:
                task = asyncio.create_task(self._spread_to(stream, device))
                self._spreading.add(task)
                task.add_done_callback(self._spreading.discard)

    async def _spread_to(self, stream: Stream, device: EngineDevice) -> None:
        try:
            resident = await device.residency.acquire(stream.avatar)
        except RequestError as error:
            stream.log.info("device_without_avatar", device=device.name, reason=error.sentence)
            return
        if stream in self.streams and device.usable and device not in stream.devices:
            stream.devices.add(device, resident)
            stream.log.debug("avatar_there", device=device.name)
        else:
            device.residency.release(resident)

    def _clients(self, *, speaking: bool = False) -> Counter[str]:
        """How many streams, or speaking slots, each client holds."""
        sessions = (stream.session for stream in self.streams)
        return Counter(s.parameters.client for s in sessions if s.holds_slot or not speaking)

    def _slot_share(self, client: str) -> str:
        held = self._clients(speaking=True)
        if not beyond_share(client, held, self._clients(), self.slots):
            return ""
        return f"this client has {held[client]} of {self.slots} speaking slots, its share: try another server"

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
        stream.devices.close()
        stream.log.info(
            "stream_closed",
            frames=stream.session.frames,
            late=stream.session.late_so_far,
            dropped=stream.outbox.dropped,
            reason=stream.error.sentence if stream.error else "",
        )

    def _on_message(self, device: EngineDevice, message: m.Message) -> None:
        match message:
            case m.PrepareStep() | m.Failed(what="prepare"):
                self.avatars.preparation.handle(message)
            case m.Failed():
                self._track_failed(device, message)
            case _:
                self.log.error("engine_message_unknown", name=type(message).__name__)

    def _track_failed(self, device: EngineDevice, message: m.Failed) -> None:
        """The engine cannot go on with a turn: its stream ends, the others go on."""
        self.log.error("engine_refused", what=message.what, reason=message.sentence)
        session = device.renderer.session_of(int(message.key)) if message.what == "track" else None
        for stream in list(self.streams):
            if stream.session is session:
                stream.end(RequestError("internal", f"The engine failed at this turn: {message.sentence}."))

    def _on_engine(self, device: EngineDevice, sentence: str) -> None:
        loaded = device.engine.loaded
        if loaded is not None:
            info = loaded.info
            self.avatars.look()
            named = {"device": device.name} if device.name else {}
            self.log.info("engine_ready", engine=info["name"], build=info["build"], slots=self.slots, **named)
            for stream in self.streams:
                self._spread(stream)
        else:
            self.metrics.engine_restarts.inc()
            self.avatars.preparation.engine_down(device, sentence)
            for stream in list(self.streams):
                if stream.devices.lost(device):
                    stream.session.go_away("the engine stopped", 0)
                    stream.end(unavailable("The engine stopped: open the stream again, here or elsewhere."))
        self._tell_health()

    def _on_hopeless(self, device: EngineDevice, sentence: str) -> None:
        if self.devices.loaded is None:
            self.hopeless = sentence
            self.on_hopeless()

    def _tell_health(self) -> None:
        self.metrics.ready.set(self.devices.loaded is not None)
        self.metrics.devices_ready.set(len(self.devices.usable))
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
