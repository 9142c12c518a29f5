"""What there is to know of a running orchestrator: whether it takes calls, whether they get a face, and why not."""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from typing import Literal, Protocol

from orchestrator.archive.archive import Archive, ArchiveStatus
from orchestrator.calls.gateway import Gateway
from orchestrator.calls.portraits import DEFAULT
from orchestrator.calls.preparation import PortraitPreparation, State
from orchestrator.speech.base import VoiceByLanguage, VoiceState
from orchestrator.worker.pool import WorkerPool
from visavis.client.grpc import GrpcServerClient
from visavis.client.placement import Server
from visavis.client.pool import ServerPool
from visavis.errors import VisavisError
from visavis.service.breaker import ServiceState
from visavis.service.child import ProcessState
from visavis.service.supervisor import Supervisor, TaskFailure

ASK_S = 1.0
FRESH_S = 1.0
"""What servers said is told again for so long, so that many who ask cost the servers no more than one."""
_PACKAGES = ("visavis", "grpcio", "av")


@dataclass(frozen=True)
class AvatarStatus:
    """The default avatar, and one sentence where it is not ready."""

    name: str
    state: State
    reason: str


@dataclass(frozen=True)
class ServerStatus:
    """One inference server. ``reason``: why it cannot draw, one sentence; slots and sessions are null where it has
    not told, 0 slots or ``max_sessions`` are no bound."""

    address: str
    state: Literal["ready", "not ready", "draining", "unreachable"]
    reason: str
    engine: str | None = None
    build: str | None = None
    version: str | None = None
    speaking_slots: int | None = None
    speaking_slots_free: int | None = None
    sessions: int | None = None
    max_sessions: int | None = None


@dataclass(frozen=True)
class WorkerStatus:
    """One media worker; ``reason``: why it takes no call, one sentence."""

    pid: int | None
    has_room: bool
    reason: str
    calls: int


@dataclass(frozen=True)
class Status:
    """``takes_calls``: a call is answered now. ``talking_face``: and it gets a face whose lips move. ``missing``:
    one sentence for each thing that keeps it from that. ``processes``: listening and voices; ``services``: those of
    others that recognise, speak and answer. ``sip``: bound addresses by transport."""

    takes_calls: bool
    talking_face: bool
    missing: list[str]
    draining: bool
    calls: int
    avatar: AvatarStatus
    servers: list[ServerStatus]
    workers: list[WorkerStatus]
    voices: list[VoiceState]
    processes: list[ProcessState]
    services: list[ServiceState]
    sip: dict[str, list[str]]
    database: ArchiveStatus
    failures: list[TaskFailure]
    versions: dict[str, str]


class Running(Protocol):
    """What the orchestrator itself knows."""

    sip_up: bool
    draining: bool

    @property
    def active(self) -> int: ...


@dataclass
class StatusDesk:
    """Asks every part. ``names``: the servers as they are configured."""

    running: Running
    workers: WorkerPool
    servers: ServerPool
    preparation: PortraitPreparation
    voices: VoiceByLanguage
    sip: Gateway
    names: Sequence[str]
    supervisor: Supervisor
    archive: Archive
    processes: Callable[[], list[ProcessState]] = list
    services: Callable[[], list[ServiceState]] = list
    _asked: asyncio.Task[list[ServerStatus]] | None = None
    _asked_at: float = 0.0

    def not_ready(self) -> list[str]:
        """One sentence for each thing that keeps calls from being answered; lips are no part of it."""
        out = []
        if not self.running.sip_up:
            out.append("SIP is not listening yet")
        if self.running.draining:
            out.append("the orchestrator is draining: no new calls are taken")
        if not self.workers.has_room:
            out.append("no media worker has room for a call")
        return out

    def not_alive(self) -> str:
        """Why the process is of no use any more and had better be started again; "" where it lives."""
        return self.workers.stuck

    def talking_face(self) -> bool:
        """Whether a call gets a face whose lips move, as far as is known without asking anybody."""
        return self._avatar().state == "ready" and self.preparation.servers_usable

    async def status(self) -> Status:
        """Everything, within about a second."""
        not_ready, servers, avatar = self.not_ready(), await self._servers(), self._avatar()
        missing = not_ready + self._faceless(servers, avatar)
        running = self.running
        return Status(
            takes_calls=not not_ready,
            talking_face=not missing,
            missing=missing,
            draining=running.draining,
            calls=running.active,
            avatar=avatar,
            servers=servers,
            workers=[
                WorkerStatus(worker.pid, worker.has_room, worker.strain, len(worker.calls))
                for worker in self.workers.workers
            ],
            voices=self.voices.states,
            processes=self.processes(),
            services=self.services(),
            sip=self._addresses(),
            database=self.archive.status,
            failures=self.supervisor.failures,
            versions={name: metadata.version(name) for name in _PACKAGES}
            | {"python": platform.python_version()},
        )

    def _faceless(self, servers: Sequence[ServerStatus], avatar: AvatarStatus) -> list[str]:
        usable = any(server.state == "ready" for server in servers)
        out = []
        if not usable:
            told = [server for server in servers if server.state in ("not ready", "draining")]
            out += [f"the inference server at {one.address} cannot draw: {one.reason}" for one in told]
            if not told:
                names = ", ".join(self.names)
                out.append(
                    f"no inference server answers at {names}: start one with python -m inference_server"
                )
        if avatar.state == "failed":
            out.append(f"avatar refused: {avatar.reason}")
        elif avatar.state != "ready" and usable:
            out.append(avatar.reason)
        return out

    def _avatar(self) -> AvatarStatus:
        pids = [worker.pid for worker in self.workers.workers if worker.pid is not None]
        return AvatarStatus(DEFAULT, *self.preparation.state(DEFAULT, pids))

    def _addresses(self) -> dict[str, list[str]]:
        if not self.running.sip_up:
            return {}
        return {transport: list(addresses) for transport, addresses in self.sip.addresses.items()}

    async def _servers(self) -> list[ServerStatus]:
        now = asyncio.get_running_loop().time()
        if self._asked is None or (self._asked.done() and now - self._asked_at > FRESH_S):
            self._asked, self._asked_at = asyncio.create_task(self._ask_all()), now
        return await asyncio.shield(self._asked)

    async def _ask_all(self) -> list[ServerStatus]:
        clients = [c for c in self.servers.clients.values() if isinstance(c, GrpcServerClient)]
        known = self.servers.placement.servers
        return list(await asyncio.gather(*(_ask(client, known.get(client.address)) for client in clients)))


async def _ask(client: GrpcServerClient, known: Server | None) -> ServerStatus:
    capacity = known.capacity if known is not None else None
    status = ServerStatus(client.address, "unreachable", "")
    if capacity is not None:
        status = replace(
            status,
            speaking_slots=capacity.speaking_slots,
            speaking_slots_free=capacity.speaking_slots_free,
            sessions=capacity.sessions,
            max_sessions=capacity.max_sessions,
        )
    try:
        async with asyncio.timeout(ASK_S):
            able = await client.capabilities()
    except TimeoutError:
        return replace(status, reason=f"it did not answer within {ASK_S:g} s")
    except VisavisError as error:
        return replace(status, reason=str(error))
    status = replace(
        status,
        state="ready",
        reason=able.not_ready_reason,  # of one of its devices, where others draw
        engine=able.engine,
        build=able.build,
        version=able.version,
    )
    if able.draining:
        return replace(status, state="draining", reason="it drains: no new conversations")
    if not able.ready:
        return replace(status, state="not ready", reason=able.not_ready_reason or "its engine is not ready")
    return status
