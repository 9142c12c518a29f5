"""The orchestrator put together: SIP, media workers, voices, API, and their orderly end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

from orchestrator.api.dependencies import Services
from orchestrator.api.server import ApiServer
from orchestrator.archive.archive import Archive, Retention
from orchestrator.archive.database import Database
from orchestrator.calls.call import Call
from orchestrator.calls.events import EventBus
from orchestrator.calls.gateway import DialOrder, DialRefused
from orchestrator.calls.portraits import DEFAULT, AvatarCatalog, Portrait
from orchestrator.calls.preparation import PortraitPreparation, PortraitShape
from orchestrator.calls.registry import CallRegistry
from orchestrator.calls.viewers import Viewer
from orchestrator.config import Settings
from orchestrator.conversation.conversations import Conversations
from orchestrator.conversation.limits import ConversationLimits
from orchestrator.conversation.setup import (
    assistants_of,
    http_tools_of,
    recognition_of,
    voice_service_of,
)
from orchestrator.gateways.sip import SipGateway
from orchestrator.gateways.web import WebGateway
from orchestrator.metrics import OrchestratorCollector, make_registry
from orchestrator.nameserver import resolver_of
from orchestrator.recording.sealed import read_key
from orchestrator.recording.setup import recordings_of
from orchestrator.rtp.dtls import identity_fingerprint, new_identity
from orchestrator.speech.remote import VoicesProcess, remote_voices
from orchestrator.speech.service import service_voices
from orchestrator.status import StatusDesk
from orchestrator.webhook.webhook import Webhook, make_webhook
from orchestrator.worker.host import HostSettings
from orchestrator.worker.messages import (
    AvatarPrepared,
    AvatarSettings,
    Message,
    PrepareState,
    Setup,
    TaskFailed,
    WorkerReady,
)
from orchestrator.worker.pool import PoolSettings, WorkerPool
from visavis import portraits
from visavis.client.body_cache import BodyCache
from visavis.client.model import Avatar
from visavis.client.pool import ServerPool
from visavis.service.breaker import CircuitBreaker, ServiceState
from visavis.service.child import ProcessState
from visavis.service.logs import Log
from visavis.service.security import make_token_file
from visavis.service.supervisor import Supervisor

log = Log(__name__)

LAST_POSTS_S = 2.0


class App:
    """One orchestrator. ``run`` returns after SIGTERM or SIGINT, when every call has ended."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.supervisor = Supervisor()
        self._bus = EventBus()
        self._webhook: Webhook | None = None
        self._speech = VoicesProcess()
        self._voice_service = voice_service_of(settings)
        self._voice_breaker = CircuitBreaker("tts", settings.tts)
        self._voices = (
            service_voices(self._speech, self._voice_service, self._voice_breaker)
            if self._voice_service is not None
            else remote_voices(self._speech)
        )
        self._catalog = AvatarCatalog(
            settings.data_dir / "avatars", settings.avatar_image or portraits.DEFAULT, portraits.CAST
        )
        identity = new_identity()
        self._pool = WorkerPool(pool_settings(settings, identity), self._on_message, self.supervisor)
        self._calls = CallRegistry(settings, self._pool, self._catalog, self._voices, self._bus)
        key = read_key(settings.recording_key_file) if settings.recording_key_file is not None else None
        retention = Retention(settings.records_days, settings.records_kept)
        self.archive = Archive(Database(settings.database_url, key), retention)
        self._calls.records.keep = self.archive.keep_record
        self.recordings = recordings_of(settings, self._calls, self.archive)
        self._calls.on_begin = self.recordings.begun
        self.conversations = Conversations(
            self._calls,
            assistants_of(settings),
            settings.assistant,
            most=settings.max_conversations,
            greets=settings.assistant_greets,
            transfer_to=settings.assistant_transfer_to,
            http_tools=http_tools_of(settings),
            on_entry=self.archive.keep_entry,
            catalog=self._catalog,
            recognition=recognition_of(settings),
            language=settings.language,
            limits=ConversationLimits(
                settings.conversation_minutes, settings.conversation_turns, settings.conversation_tokens
            ),
        )
        self._calls.on_answered = self.conversations.answered
        self._sip = SipGateway(settings, self._calls, self.supervisor)
        self._web = WebGateway(settings, self._calls, identity_fingerprint(identity), self.supervisor)
        self._collector = OrchestratorCollector(
            self._calls, self._pool, self._bus, self.supervisor, lambda: self._desk.talking_face()
        )
        self._collector.archive, self._collector.recordings = self.archive, self.recordings
        self._collector.conversations = lambda: (self.conversations.active, self.conversations.hears)
        self._collector.processes, self._collector.services = self._processes, self._services
        self.sip_up = False
        self.draining = False
        names = resolver_of(settings.avatar_nameserver)
        self._servers = ServerPool(
            settings.avatar_servers, resolver=names, credentials=settings.avatar_credentials
        )
        bodies = BodyCache(settings.cache_dir / "bodies", settings.cache_bytes)
        shape = PortraitShape(*settings.video_size, settings.frame_rate, settings.avatar_fit)
        self._preparation = PortraitPreparation(self._servers, bodies, shape, self._tell_prepared)
        self._desk = StatusDesk(
            self,
            self._pool,
            self._servers,
            self._preparation,
            self._voices,
            self._sip,
            settings.avatar_servers,
            self.supervisor,
            self.archive,
            self._processes,
            self._services,
        )
        self._stop = asyncio.Event()

    # -- what the API asks --

    @property
    def calls(self) -> Sequence[Call]:
        """See :class:`orchestrator.api.dependencies.Orchestrator`."""
        return self._calls.calls

    def call(self, call_id: str) -> Call | None:
        """The call with this id."""
        return self._calls.call(call_id)

    async def dial(self, order: DialOrder) -> str:
        """Call somebody; returns the call's id. Raises :class:`DialRefused`."""
        if not self.sip_up or self.draining:
            raise DialRefused("the orchestrator takes no calls now: try again later")
        return await self._calls.dial(self._sip, order)

    def view(self, call_id: str) -> Viewer:
        """The pictures of a call under way, as they leave for the caller."""
        return self._calls.view(call_id)

    async def erase(self, call_id: str) -> bool:
        """Leave nothing of an ended call; whether there was anything. Raises :class:`DatabaseAway`."""
        erased = await self.archive.erase([call_id])
        self._calls.forget(call_id)
        self.conversations.forget(call_id)
        return bool(erased)

    def trace(self, call_id: str) -> str | None:
        """See :meth:`orchestrator.calls.registry.CallRegistry.trace`."""
        return self._calls.trace(call_id)

    def start_trace(self, call_id: str) -> bool:
        """Keep the SIP messages of a call from now on; whether it is under way."""
        return self._calls.start_trace(call_id)

    def trace_calls(self, calls: int) -> None:
        """Keep the SIP messages of the next so many calls."""
        self._sip.trace_calls(calls)
        self._web.trace_calls(calls)

    @property
    def active(self) -> int:
        """Calls under way."""
        return self._calls.active

    @property
    def desk(self) -> StatusDesk:
        """See :class:`orchestrator.api.dependencies.Orchestrator`."""
        return self._desk

    async def put_portrait(self, name: str, data: bytes) -> Portrait:
        """Prepare and store an uploaded portrait. Raises :class:`AvatarError` where it cannot be used."""
        self._catalog.check(name, data)
        checked = await self._preparation.check(data)
        try:
            portrait = await asyncio.to_thread(self._catalog.put, name, data)
        except BaseException:
            self._preparation.discard(checked)
            raise
        self._preparation.store(portrait, checked)
        return portrait

    async def delete_portrait(self, name: str) -> Portrait | None:
        """Erase a portrait; ``None`` where there is none. Raises :class:`AvatarError` for the default one.

        Calls that show it keep it until they end.
        """
        portrait = self._catalog.delete(name)  # on the loop: nobody looks it up meanwhile
        if portrait is not None:
            self._preparation.forget(portrait)
            self._calls.erased(portrait)
        return portrait

    # -- life --

    async def run(self) -> None:
        """Serve until told to stop. Raises ``OSError`` or ``NoRoom`` with one sentence where it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self.supervisor.oversee()
        self._make_fleet_token()
        api = self._api()
        self.supervisor.keep("metrics", self._count_events)
        self._start_webhook()
        serving: asyncio.Task[None] | None = None
        try:
            self.archive.start(self.supervisor)
            self.recordings.start(self.supervisor)
            self._speech.start(self.supervisor)
            self.conversations.start(self.supervisor, self._voices, self._speech.cache)
            await asyncio.gather(self._servers.start(), self._pool.start())
            if portrait := self._catalog.get(DEFAULT):
                self._preparation.want(portrait)
            self.supervisor.keep("preparation", self._preparation.watch)
            self.supervisor.watch("first words", self._voices.warm(self.settings.language))
            await self._sip.start()
            await self._web.start()
            self.sip_up = True
            serving = asyncio.create_task(api.serve())
            log.info("started", sip=self._sip.addresses, api=api.address)
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if serving.done() and not self._stop.is_set():
                raise OSError(f"the API on {api.address} ended by itself: see the log")
            await self._drain()
        finally:
            self.draining = True
            if self.sip_up:
                self._sip.drain()
                self._web.drain()
                await self._calls.close()
                await self._web.close()
                await self._sip.close()
            await api.close()
            if serving is not None:
                await serving
            if self._webhook is not None:
                await self._webhook.close(LAST_POSTS_S)
            await self._preparation.close()
            await self._servers.close()
            await self._pool.close()
            await self.conversations.close()
            await self._speech.close()
            if self._voice_service is not None:
                await self._voice_service.close()
            await self.recordings.close()
            await self.supervisor.close()
            await self.archive.close()
            log.info("stopped")

    # -- inside --

    def _processes(self) -> list[ProcessState]:
        recorder = self.recordings.process
        wanted = [recorder] if recorder.state != "off" else []
        return [self.conversations.ears.process, self._speech.process, *wanted]

    def _services(self) -> list[ServiceState]:
        spoken = [self._voice_breaker.state] if self._voice_service is not None else []
        return [*self.conversations.services, *spoken]

    async def _drain(self) -> None:
        """No new calls; returns when those under way have ended, at the deadline, or at a second signal."""
        self.draining = True
        self._sip.drain()
        self._web.drain()
        self._stop.clear()
        calls, seconds = self._calls.active, self.settings.drain_s
        log.info("draining", calls=calls, deadline_s=seconds)
        if calls and seconds:
            tasks = {asyncio.create_task(self._calls.emptied()), asyncio.create_task(self._stop.wait())}
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    def _on_message(self, message: Message) -> None:
        match message:
            case WorkerReady():
                self._preparation.tell_all()
            case PrepareState(worker, digest, state, reason):
                log.info("avatar_in_worker", worker=worker, avatar=digest[:16], state=state, reason=reason)
                self._preparation.worker_said(worker, digest, state, reason)
            case TaskFailed(task, reason):
                self.supervisor.failed(f"media worker: {task}", reason, running=True)
            case _:
                self._calls.on_message(message)

    def _tell_prepared(self, portrait: Portrait, avatar: Avatar) -> None:
        self._pool.broadcast(AvatarPrepared(str(portrait.path), avatar))

    def _make_fleet_token(self) -> None:
        """Whichever service of a machine starts first makes the token that they share."""
        file = Path(self.settings.avatar_credentials.token_file)
        try:
            make_token_file(file, "fleet")
        except OSError as error:
            log.warning("fleet_token_not_made", file=str(file), reason=error.strerror)

    def _start_webhook(self) -> None:
        settings = self.settings
        if settings.webhook:
            webhook = make_webhook(self._bus, settings.webhook, settings.webhook_secret, settings.data_dir)
            self._webhook = self._collector.webhook = webhook
            for name, job in webhook.jobs().items():
                self.supervisor.keep(name, job)

    async def _count_events(self) -> None:
        async with self._bus.listen("metrics") as events:
            while True:
                self._collector.count(await events.get())

    def _api(self) -> ApiServer:
        registry = make_registry(self._collector)
        services = Services(self, self._catalog, self._bus, registry, self.settings.language, self._web)
        return ApiServer(self.settings, services)


def pool_settings(settings: Settings, identity: str = "") -> PoolSettings:
    """What media workers are told of the settings; ``identity`` is their certificate for DTLS, as PEM."""
    width, height = settings.video_size
    host = HostSettings(
        settings.sip_host,
        settings.rtp_port_min,
        settings.rtp_port_max,
        str(settings.cache_dir),
        identity=identity,
        web_port=settings.web_udp_port,
    )
    avatar = AvatarSettings(
        servers=tuple(settings.avatar_servers),
        cache=str(settings.cache_dir),
        cache_bytes=settings.cache_bytes,
        width=width,
        height=height,
        fps=settings.frame_rate,
        bitrate=settings.video_bitrate,
        fit=settings.avatar_fit,
        nameserver=settings.avatar_nameserver,
        credentials=settings.avatar_credentials,
        mark=settings.picture_mark,
    )
    setup = Setup(host, "orchestrator.avatar.owner:make", avatar, settings.log_level)
    return PoolSettings(setup, settings.media_workers)
