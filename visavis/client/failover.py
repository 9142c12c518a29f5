"""Failover: a session is opened on a server, lives there until the server is left, and what a failure means."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from typing import Any, NamedTuple, Protocol

from visavis import errors
from visavis.avatar.v1.contract import FrameScope
from visavis.client.messages import Open, ServerMessage
from visavis.client.model import Avatar
from visavis.client.placement import Failure
from visavis.client.replicas import AnotherBody, check_same_body
from visavis.client.server import Link, ServerClient
from visavis.client.session import SessionProtocol
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log("visavis.client.stream")


class Servers(Protocol):
    """What a stream needs of the servers; :class:`visavis.client.pool.ServerPool` is it."""

    # ServerPool says what each of them does.
    def choose(self, avatar_id: str, exclude: Collection[str] = ()) -> ServerClient | None: ...
    def avatar_id_on(self, address: str, avatar: Avatar) -> str: ...
    def better(self, address: str, avatar: Avatar) -> ServerClient | None: ...
    async def prepare_on(self, client: ServerClient, avatar: Avatar) -> str: ...
    def failed(self, address: str, failure: Failure) -> None: ...
    def opening(self, address: str, change: int) -> None: ...
    def opened(self, address: str, avatar: Avatar, avatar_id: str) -> None: ...
    def closed(self, address: str, avatar: Avatar) -> None: ...
    def served(self, address: str) -> None: ...
    async def wait_change(self, timeout_s: float) -> None: ...


class OpenRefusal(NamedTuple):
    """Why a session could not be opened on a server. ``instead``: what the server makes of the portrait, where its
    body is another one; the server is well, but not for this stream."""

    failure: Failure
    reason: str
    instead: Avatar | None = None


class Leave(NamedTuple):
    """Why a server is left; ``failure`` where that is its fault."""

    failure: Failure | None
    reason: str


_CLOSED = "its connection was closed: the name no longer lists the server"


def _closed_under_us() -> bool:
    """Nobody cancelled this task: gRPC tells of a closed channel by a cancellation of its own."""
    task = asyncio.current_task()
    return task is not None and not task.cancelling()


def failure_of(error: Exception) -> Failure:
    """What an error from a server means for placement."""
    match error:
        case errors.ServerFull():
            return "full"
        case errors.ServerStalled():
            return "stalled"
        case errors.ServerUnavailable():
            return "unavailable"
        case _:
            return "refused"


class OpenSession:
    """A session that is open on a server, until that is left. Belongs to one event loop."""

    def __init__(self, client: ServerClient, link: Link, session_id: str) -> None:
        self.client = client
        self.link = link
        self._session_id = session_id
        self._wake = asyncio.Event()
        self._left: asyncio.Future[Leave] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self, protocol: SessionProtocol, on_message: Callable[[ServerMessage], None]) -> Leave:
        """Send what the protocol has to say and hand over what comes, until :meth:`leave` or a failure."""
        self.alongside(self._until_it_fails(lambda: self._write(protocol)))
        self.alongside(self._until_it_fails(lambda: self._read(on_message)))
        try:
            return await self._left
        finally:
            tasks, self._tasks = self._tasks, []  # a cancelled task's traceback leads here
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def alongside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends with :meth:`run` at the latest."""
        self._tasks = [task for task in self._tasks if not task.done()]
        task = logged(asyncio.create_task(work), "avatar stream")
        self._tasks.append(task)
        return task

    def wake(self) -> None:
        """The protocol has something to say."""
        self._wake.set()

    def leave(self, leave: Leave) -> None:
        """Leave the server; the first reason counts."""
        if not self._left.done():
            self._left.set_result(leave)

    async def _write(self, protocol: SessionProtocol) -> None:
        while True:
            request = protocol.next_request()
            if request is not None:
                await self.link.send(request)
                continue
            self._wake.clear()
            await self._wake.wait()

    async def _read(self, on_message: Callable[[ServerMessage], None]) -> None:
        while True:
            on_message(await self.link.receive())

    async def _until_it_fails(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            if not _closed_under_us():
                raise
            self.leave(Leave("unavailable", _CLOSED))
        except errors.VisavisError as e:
            self.leave(Leave(failure_of(e), str(e)))
        except Exception as e:
            log.exception("stream_failed", e, session=self._session_id)
            self.leave(Leave("unavailable", str(e)))


class SessionOpener:
    """Opens one conversation's session on servers and lets go of it; they are told of both, and of failures."""

    def __init__(self, servers: Servers, avatar: Avatar, session_id: str, follows_path: bool = False) -> None:
        self._servers = servers
        self._follows_path = follows_path
        self._avatar = avatar
        self._session_id = session_id

    def others(self, *addresses: str | None) -> bool:
        """There is another server than these to turn to."""
        return self._servers.choose(self._avatar.avatar_id, {a for a in addresses if a}) is not None

    async def open(
        self, client: ServerClient, body_sha256: bytes, deadline_s: float
    ) -> OpenSession | OpenRefusal:
        """Open the session there; an avatar that the server does not know is prepared first."""
        self._servers.opening(client.address, 1)
        try:
            link, avatar_id = await self._link(client, body_sha256, deadline_s)
        except TimeoutError:
            refusal = OpenRefusal("stalled", "preparing the avatar took too long")
        except asyncio.CancelledError:
            if not _closed_under_us():
                raise
            refusal = OpenRefusal("unavailable", _CLOSED)
        except AnotherBody as e:
            refusal = OpenRefusal("refused", str(e), e.avatar)
        except Exception as e:
            refusal = OpenRefusal(failure_of(e), str(e))
            if not isinstance(e, errors.VisavisError):
                log.exception("opening_failed", session=self._session_id)
        else:
            self._servers.opened(client.address, self._avatar, avatar_id)
            return OpenSession(client, link, self._session_id)
        finally:
            self._servers.opening(client.address, -1)
        if refusal.instead is None:
            self._servers.failed(client.address, refusal.failure)
        about = {"session": self._session_id, "server": client.address, "reason": refusal.reason}
        log.warning("avatar_server_not_used", **about)
        return refusal

    def let_go(self, session: OpenSession) -> None:
        """The session is there no more."""
        session.link.cancel()
        self._servers.closed(session.client.address, self._avatar)

    async def _link(self, client: ServerClient, body_sha256: bytes, deadline_s: float) -> tuple[Link, str]:
        """The link and the avatar's id on that server."""

        def request(avatar_id: str) -> Open:
            scope: FrameScope = "rectangle" if body_sha256 else "whole"
            return Open(avatar_id, self._session_id, body_sha256, scope, follows_path=self._follows_path)

        avatar_id = self._servers.avatar_id_on(client.address, self._avatar)
        try:
            link = await client.converse(request(avatar_id), deadline_s)
        except errors.AvatarUnknown:
            avatar_id = await self._servers.prepare_on(client, self._avatar)
            link = await client.converse(request(avatar_id), deadline_s)
        try:
            check_same_body(client.address, link.opened.avatar, self._avatar)
        except AnotherBody:
            link.cancel()
            raise
        return link, avatar_id
