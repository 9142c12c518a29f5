"""Where a conversation can live: opening it on a server, and what a refusal means."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import NamedTuple, Protocol

from visavis import errors
from visavis.client.messages import Open
from visavis.client.model import Avatar
from visavis.client.placement import Failure
from visavis.client.server import Link, ServerClient
from visavis.service.logs import Log

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


class Home(NamedTuple):
    """A conversation that is open on a server."""

    client: ServerClient
    link: Link


class Refusal(NamedTuple):
    """Why one could not be opened."""

    failure: Failure
    reason: str


CLOSED = "its connection was closed: the name no longer lists the server"


def closed_under_us() -> bool:
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


class Homes:
    """Opens homes for one conversation and lets go of them; the servers are told of both, and of failures."""

    def __init__(self, servers: Servers, avatar: Avatar, session_id: str) -> None:
        self._servers = servers
        self._avatar = avatar
        self._session_id = session_id

    def others(self, *addresses: str | None) -> bool:
        """There is another server than these to turn to."""
        return self._servers.choose(self._avatar.avatar_id, {a for a in addresses if a}) is not None

    async def open(self, client: ServerClient, body_sha256: bytes, deadline_s: float) -> Home | Refusal:
        """Open a conversation there; an avatar that the server does not know is prepared first."""
        self._servers.opening(client.address, 1)
        try:
            link, avatar_id = await self._link(client, body_sha256, deadline_s)
        except TimeoutError:
            refusal = Refusal("stalled", "preparing the avatar took too long")
        except asyncio.CancelledError:
            if not closed_under_us():
                raise
            refusal = Refusal("unavailable", CLOSED)
        except Exception as e:
            refusal = Refusal(failure_of(e), str(e))
            if not isinstance(e, errors.VisavisError):
                log.exception("opening_failed", session=self._session_id)
        else:
            self._servers.opened(client.address, self._avatar, avatar_id)
            return Home(client, link)
        finally:
            self._servers.opening(client.address, -1)
        self._servers.failed(client.address, refusal.failure)
        about = {"session": self._session_id, "server": client.address, "reason": refusal.reason}
        log.warning("avatar_server_not_used", **about)
        return refusal

    def let_go(self, home: Home) -> None:
        """The conversation is there no more."""
        home.link.cancel()
        self._servers.closed(home.client.address, self._avatar)

    async def _link(self, client: ServerClient, body_sha256: bytes, deadline_s: float) -> tuple[Link, str]:
        """The link and the avatar's id on that server."""

        def request(avatar_id: str) -> Open:
            return Open(avatar_id, self._session_id, body_sha256, "rectangle" if body_sha256 else "whole")

        avatar_id = self._servers.avatar_id_on(client.address, self._avatar)
        try:
            link = await client.converse(request(avatar_id), deadline_s)
        except errors.AvatarUnknown:
            avatar_id = await self._servers.prepare_on(client, self._avatar)
            link = await client.converse(request(avatar_id), deadline_s)
        if _shape(link.opened.avatar) != _shape(self._avatar):
            link.cancel()
            raise errors.InvalidRequest(
                f"avatar {avatar_id} on {client.address} has another size, rate or loop"
            )
        return link, avatar_id


def _shape(avatar: Avatar) -> tuple[object, ...]:
    return avatar.width, avatar.height, avatar.fps, avatar.loop_length
