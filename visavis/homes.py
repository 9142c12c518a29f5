"""Where a conversation can live: opening it on a server, and what a refusal means."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import NamedTuple, Protocol

from visavis import errors
from visavis.logs import Log
from visavis.messages import Open
from visavis.model import Avatar
from visavis.placement import Failure
from visavis.transport import Link, ServerClient

log = Log("visavis.stream")


class Servers(Protocol):
    """What a stream needs of the servers; :class:`visavis.pool.ServerPool` is it."""

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


async def open_on(
    servers: Servers,
    client: ServerClient,
    avatar: Avatar,
    session_id: str,
    body_sha256: bytes,
    deadline_s: float,
) -> Home | Refusal:
    """Open a conversation there; the servers are told of it, and of a failure."""
    servers.opening(client.address, 1)
    try:
        link, avatar_id = await _open_on(servers, client, avatar, session_id, body_sha256, deadline_s)
    except TimeoutError:
        refusal = Refusal("stalled", "preparing the avatar took too long")
    except asyncio.CancelledError:
        if not closed_under_us():
            raise
        refusal = Refusal("unavailable", CLOSED)
    except Exception as e:
        refusal = Refusal(failure_of(e), str(e))
        if not isinstance(e, errors.VisavisError):
            log.exception("opening_failed", session=session_id)
    else:
        servers.opened(client.address, avatar, avatar_id)
        return Home(client, link)
    finally:
        servers.opening(client.address, -1)
    servers.failed(client.address, refusal.failure)
    about = {"session": session_id, "server": client.address, "reason": refusal.reason}
    log.warning("avatar_server_not_used", **about)
    return refusal


async def _open_on(
    servers: Servers,
    client: ServerClient,
    avatar: Avatar,
    session_id: str,
    body_sha256: bytes,
    deadline_s: float,
) -> tuple[Link, str]:
    """The link and the avatar's id on that server; an avatar that it does not know is prepared first."""

    def request(avatar_id: str) -> Open:
        return Open(avatar_id, session_id, body_sha256, "rectangle" if body_sha256 else "whole")

    avatar_id = servers.avatar_id_on(client.address, avatar)
    try:
        link = await client.converse(request(avatar_id), deadline_s)
    except errors.AvatarUnknown:
        avatar_id = await servers.prepare_on(client, avatar)
        link = await client.converse(request(avatar_id), deadline_s)
    there = link.opened.avatar
    if (there.width, there.height, there.fps, there.loop_length) != (
        avatar.width,
        avatar.height,
        avatar.fps,
        avatar.loop_length,
    ):
        link.cancel()
        raise errors.InvalidRequest(f"avatar {avatar_id} on {client.address} has another size, rate or loop")
    return link, avatar_id
