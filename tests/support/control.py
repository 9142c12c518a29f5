"""The control process in this one: signalling, calls, API and webhook are real; media and sockets are not there."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import httpx

from orchestrator.api.app import create_app
from orchestrator.api.dependencies import Services
from orchestrator.archive.archive import Archive
from orchestrator.archive.database import Database
from orchestrator.calls.call import Call
from orchestrator.calls.events import EventBus
from orchestrator.calls.gateway import DialOrder
from orchestrator.calls.portraits import AvatarCatalog
from orchestrator.calls.registry import CallRegistry
from orchestrator.config import Settings
from orchestrator.gateways.sip import SipGateway
from orchestrator.media.session import SessionStats
from orchestrator.metrics import OrchestratorCollector, make_registry
from orchestrator.sip.config import SipConfig
from orchestrator.speech.base import VoiceByLanguage
from orchestrator.webhook.signing import Signer
from orchestrator.webhook.spool import Spool
from orchestrator.webhook.webhook import Webhook
from orchestrator.worker.messages import CallOpened, CloseVideo, ConfigureCall, Message
from tests.support.credentials import API, api_guard
from tests.support.sip_fake import Wire
from visavis import portraits
from visavis.service.secret import Secret, SecretUrl
from visavis.service.supervisor import Supervisor

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
URL = "https://user:seeded-password@hook.example/calls?token=seeded-token"


class NoMedia:
    """A pool of media workers that opens ports on paper, no video port twice; ``video`` are those that are open.

    ``agreed`` is what each call's media were configured with, in order.
    """

    workers: Sequence[Any] = ()

    def __init__(self) -> None:
        self.video: dict[str, int] = {}
        self.agreed: list[ConfigureCall] = []
        self.exhausted = False
        self._ports = itertools.count(40_002, 2)

    async def open_call(self, call_id: str, *, video: bool = True, bundle: bool = False) -> CallOpened:
        return CallOpened(call_id, 40_000, await self.open_video(call_id) if video else None)

    async def open_video(self, call_id: str) -> int | None:
        await asyncio.sleep(0)
        if not self.exhausted:
            self.video.setdefault(call_id, next(self._ports))
        return self.video.get(call_id)

    async def close_call(self, call_id: str) -> SessionStats | None:
        self.video.pop(call_id, None)
        return None

    def send(self, message: Message) -> None:
        match message:
            case ConfigureCall(call_id, _, video):
                self.agreed.append(message)
                assert video is None or call_id in self.video, "a picture from a port that nobody was told"
                if video is None:
                    self.video.pop(call_id, None)
            case CloseVideo(call_id):
                self.video.pop(call_id, None)


class Control:
    """``wire`` is the peer's pen, ``api`` a client, ``posted`` what the webhook took, ``status`` how it answers."""

    def __init__(self, folder: Path, *, max_call_s: float = 14_400.0) -> None:
        settings = Settings(greeting="", data_dir=folder, max_calls=10_000)
        self.bus, self.supervisor = EventBus(), Supervisor(delay_s=0.01)
        catalog = AvatarCatalog(folder / "avatars", portraits.DEFAULT)
        self.media = NoMedia()
        pool = cast(Any, self.media)
        self.registry = CallRegistry(settings, pool, catalog, VoiceByLanguage({}), self.bus)
        self.archive = Archive(Database(settings.database_url))
        self.registry.records.keep = self.archive.keep_record
        fast = SipConfig(
            messages_per_second=1e9,
            invites_per_second=1e9,
            max_calls=10_000,
            max_calls_per_source=10_000,
            max_call_seconds=max_call_s,
        )
        self.gateway = SipGateway(settings, self.registry)
        self.wire = Wire(cast(Any, self.gateway), fast)
        self.gateway._stack._agent = self.wire.agent  # as if it had been started
        self.wire.agent.tracer.upcoming = None
        collector = OrchestratorCollector(self.registry, pool, self.bus, self.supervisor)
        services = Services(cast(Any, self), catalog, self.bus, make_registry(collector), "en")
        transport = httpx.ASGITransport(
            create_app(services, "0", api_guard(folder)), raise_app_exceptions=False
        )
        self.api = httpx.AsyncClient(transport=transport, base_url="http://test", headers=API)
        self.status = 200
        self.posted: list[dict[str, Any]] = []
        self.requests: list[httpx.Request] = []
        self.webhook = collector.webhook = Webhook(
            self.bus,
            SecretUrl(URL),
            Signer(Secret(SECRET)),
            Spool(folder / "webhook"),
            httpx.MockTransport(self._post),
        )

    def start(self) -> None:
        """Begin to post, and to keep records."""
        self.archive.start(self.supervisor)
        for name, job in self.webhook.jobs().items():
            self.supervisor.keep(name, job)

    async def posts_of(self, call_id: str, kind: str) -> dict[str, Any]:
        """An event of a call as the webhook got it."""
        async with asyncio.timeout(5):
            while True:
                for event in self.posted:
                    if (event["call_id"], event["event"]) == (call_id, kind):
                        return event
                await asyncio.sleep(0)

    async def close(self) -> None:
        await self.webhook.close(1.0)
        await self.supervisor.close()
        await self.archive.close()
        await self.api.aclose()

    def _post(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if self.status < 300:
            self.posted.append(json.loads(request.content.decode("utf-8")))
        return httpx.Response(self.status)

    # -- what the API asks --

    @property
    def calls(self) -> Sequence[Call]:
        return self.registry.calls

    def call(self, call_id: str) -> Call | None:
        return self.registry.call(call_id)

    @property
    def desk(self) -> Any:
        return SimpleNamespace(not_ready=list, not_alive=str)

    async def dial(self, order: DialOrder) -> str:
        return await self.registry.dial(self.gateway, order)

    def trace(self, call_id: str) -> str | None:
        return self.registry.trace(call_id)
