"""The orchestrator put together: SIP, media workers, voices, API, and their orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Sequence
from importlib import metadata

import uvicorn

from orchestrator.api.app import create_app
from orchestrator.api.dependencies import Services
from orchestrator.avatar.names import resolver_of
from orchestrator.avatars import DEFAULT, AvatarCatalog, Portrait
from orchestrator.call import Call
from orchestrator.config import Settings
from orchestrator.events import EventBus
from orchestrator.line import DialOrder
from orchestrator.media.host import HostSettings
from orchestrator.media.messages import Command, Notice
from orchestrator.media.pool import PoolSettings, WorkerPool
from orchestrator.metrics import OrchestratorCollector, make_registry
from orchestrator.records import RecordBook
from orchestrator.sip.stack import SipStack
from orchestrator.sip_settings import sip_config
from orchestrator.speech.voices import installed_voices
from orchestrator.switchboard import DialRefused, Switchboard
from orchestrator.webhook import Webhook, make_webhook
from visavis import portraits
from visavis.errors import InvalidRequest, VisavisError
from visavis.logs import Log
from visavis.model import AvatarSource
from visavis.pool import ServerPool
from visavis.supervisor import Supervisor

log = Log(__name__)

CHECK_S = 30.0
LAST_POSTS_S = 2.0


class App:
    """One orchestrator. ``run`` returns after SIGTERM or SIGINT, when every call has ended."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.supervisor = Supervisor()
        self._bus = EventBus()
        self._webhook: Webhook | None = None
        self._voices = installed_voices()
        self._catalog = AvatarCatalog(
            settings.data_dir / "avatars", settings.avatar_image or portraits.DEFAULT
        )
        self._pool = WorkerPool(
            self._pool_settings(), lambda message: self._board.on_message(message), self.supervisor
        )
        self._board = Switchboard(
            settings, self._pool, self._catalog, self._voices, self._bus, self._on_notice
        )
        self._collector = OrchestratorCollector(self._board, self._pool, self._bus, self.supervisor)
        self._sip = SipStack(sip_config(settings), self._board, self.supervisor)
        self._sip_up = False
        self._draining = False
        self._servers_usable = False
        self._default_state = ("preparing", "the avatar is being prepared")
        self._stop = asyncio.Event()

    # -- what the API asks --

    @property
    def calls(self) -> Sequence[Call]:
        """See :class:`orchestrator.api.dependencies.Orchestrator`."""
        return self._board.calls

    def call(self, call_id: str) -> Call | None:
        """The call with this id."""
        return self._board.call(call_id)

    async def dial(self, order: DialOrder) -> str:
        """Call somebody; returns the call's id. Raises :class:`DialRefused`."""
        if not self._sip_up or self._draining:
            raise DialRefused("the orchestrator takes no calls now: try again later")
        return await self._board.dial(self._sip, order)

    @property
    def records(self) -> RecordBook:
        """See :class:`orchestrator.api.dependencies.Orchestrator`."""
        return self._board.records

    def trace(self, call_id: str) -> str | None:
        """The SIP messages of a call as text: "" where none were kept, None where there is no such call."""
        return self._board.trace(call_id)

    def start_trace(self, call_id: str) -> bool:
        """Keep the SIP messages of a call from now on; whether it is under way."""
        return self._board.start_trace(call_id)

    def trace_calls(self, calls: int) -> None:
        """Keep the SIP messages of the next so many calls."""
        self._sip.trace_calls(calls)

    def missing(self) -> list[str]:
        """One sentence for each thing that keeps a call from a talking face."""
        out = []
        if not self._sip_up:
            out.append("SIP is not listening yet")
        if self._draining:
            out.append("the orchestrator is draining: no new calls are taken")
        if not self._pool.has_room:
            out.append("no media worker has room for a call")
        if not self._servers_usable:
            names = ", ".join(self.settings.avatar_servers)
            out.append(f"no inference server answers at {names}: start one with python -m inference_server")
        state, reason = self._default_state
        if state == "failed":
            out.append(f"avatar refused: {reason}")
        elif state != "ready" and self._servers_usable:
            out.append(reason or "the avatar is being prepared")
        return out

    async def check_portrait(self, data: bytes) -> None:
        """Prepare an uploaded portrait where a server can be asked; raises :class:`HTTPException` on refusal."""
        from fastapi import HTTPException

        settings = self.settings
        width, height = settings.video_size
        source = AvatarSource(data, width, height, settings.frame_rate, settings.avatar_fit)
        try:
            names = resolver_of(settings.avatar_nameserver)
            servers = ServerPool(settings.avatar_servers, resolver=names)
            async with asyncio.timeout(CHECK_S), servers as pool:
                await pool.prepare(source, timeout_s=2.0)
        except InvalidRequest as error:
            raise HTTPException(400, str(error)) from None
        except (VisavisError, TimeoutError) as error:
            log.info("portrait_not_checked", reason=str(error))

    def portrait_changed(self, portrait: Portrait) -> None:
        """Have the new portrait ready before somebody dials it."""
        self._pool.broadcast(Command("", "prepare", {"portrait": str(portrait.path)}))

    # -- life --

    async def run(self) -> None:
        """Serve until told to stop. Raises ``OSError`` or ``NoRoom`` with one sentence where it cannot start."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        self.supervisor.oversee()
        server, listening = self._api(), self._api_socket()
        self.supervisor.keep("metrics", self._count_events)
        self._start_webhook()
        serving: asyncio.Task[None] | None = None
        try:
            await self._pool.start()
            if portrait := self._catalog.get(DEFAULT):
                self.portrait_changed(portrait)
            self.supervisor.watch("first words", self._warm_voice())
            await self._sip.start()
            self._sip_up = True
            serving = asyncio.create_task(server.serve([listening]))
            log.info("started", sip=self._sip.addresses, api=self._api_address())
            stopping = asyncio.create_task(self._stop.wait())
            await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if serving.done() and not self._stop.is_set():
                raise OSError(f"the API on {self._api_address()} ended by itself: see the log")
            await self._drain()
        finally:
            self._draining = True
            if self._sip_up:
                self._sip.drain()
                await self._board.close()
                await self._sip.close()
            server.should_exit = True
            if serving is not None:
                with contextlib.suppress(SystemExit):
                    await serving
            listening.close()
            if self._webhook is not None:
                await self._webhook.close(LAST_POSTS_S)
            await self._pool.close()
            await self.supervisor.close()
            log.info("stopped")

    # -- inside --

    async def _drain(self) -> None:
        """No new calls; returns when those under way have ended, at the deadline, or at a second signal."""
        self._draining = True
        self._sip.drain()
        self._stop.clear()
        calls, seconds = self._board.active, self.settings.drain_s
        log.info("draining", calls=calls, deadline_s=seconds)
        if calls and seconds:
            tasks = {asyncio.create_task(self._board.emptied()), asyncio.create_task(self._stop.wait())}
            await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()

    def _on_notice(self, notice: Notice) -> None:
        if notice.name == "servers":
            self._servers_usable = bool(notice.data["usable"])
            log.info("inference_servers", usable=self._servers_usable)
        elif notice.name == "stage":
            state, reason = notice.data["state"], notice.data["reason"]
            log.info("avatar", avatar=notice.data["avatar"], state=state, reason=reason)
            if self._default_state[0] != "ready":
                self._default_state = (state, reason)
        elif notice.name == "task_failed":
            self.supervisor.failed(
                f"media worker: {notice.data['task']}", notice.data["reason"], running=True
            )

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

    async def _warm_voice(self) -> None:
        voice = self._voices.voice(self.settings.language)
        async for _ in voice.stream("Hello.", self.settings.language):
            pass

    def _api(self) -> uvicorn.Server:
        registry = make_registry(self._collector)
        services = Services(self, self._catalog, self._bus, registry, self.settings.language)
        app = create_app(services, metadata.version("visavis"))
        config = uvicorn.Config(
            app,
            self.settings.api_host,
            self.settings.api_port,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
        )
        server = uvicorn.Server(config)
        server.capture_signals = contextlib.nullcontext  # type: ignore[assignment, method-assign]
        return server

    def _api_socket(self) -> socket.socket:
        """The API's listening socket, taken before anything else starts."""
        host, port = self.settings.api_host, self.settings.api_port
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        try:
            return socket.create_server((host, port), family=family)
        except OSError as error:
            raise OSError(
                f"the API cannot listen on {host}:{port} ({os.strerror(error.errno or 0)}): "
                "choose another VISAVIS_API_PORT"
            ) from None

    def _api_address(self) -> str:
        return f"{self.settings.api_host}:{self.settings.api_port}"

    def _pool_settings(self) -> PoolSettings:
        settings = self.settings
        width, height = settings.video_size
        host = HostSettings(
            settings.sip_host, settings.rtp_port_min, settings.rtp_port_max, str(settings.cache_dir)
        )
        options = {
            "servers": settings.avatar_servers,
            "nameserver": settings.avatar_nameserver,
            "cache": str(settings.cache_dir),
            "cache_bytes": settings.cache_bytes,
            "width": width,
            "height": height,
            "fps": str(settings.frame_rate),
            "fit": settings.avatar_fit,
            "bitrate": settings.video_bitrate,
        }
        return PoolSettings(host, settings.media_workers, "orchestrator.avatar.factory:make", options)
