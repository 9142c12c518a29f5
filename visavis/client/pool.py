"""A pool of avatar servers: who of them prepares an avatar, who serves a conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from types import TracebackType

from visavis.client.body_cache import Body, BodyCache
from visavis.client.credentials import ServerCredentials
from visavis.client.discovery import Discovery, Resolver
from visavis.client.events import OnEvent
from visavis.client.model import Avatar, AvatarSource
from visavis.client.placement import Failure, Placement
from visavis.client.replicas import AnotherBody, Replicas
from visavis.client.server import Progress, ServerClient
from visavis.client.stream import AvatarStream
from visavis.errors import AccessDenied, AvatarUnknown, InvalidRequest, ServerUnavailable, VisavisError
from visavis.service.unhandled import logged
from visavis.session import AvatarSession, SessionEvent

__all__ = ["Resolver", "ServerPool"]

OnWait = Callable[[str], None]
"""Called with one sentence on what an avatar waits for, and with "" when it is worked on again."""

_USABLE_S = 1.0
_RETRY_S = 1.0
_EVEN_S = 0.25
"""At most one conversation in so long moves to an idler server, so that the news of it come between."""


class ServerPool:
    """All servers behind ``addresses``: a list, or one string with commas.

    An address is ``host:port``, a URL, or ``dns:///name:port`` for every A and AAAA record. ``connect`` makes the
    client of one; without it that is one over HTTP where it is a URL, else over gRPC, with ``token`` or
    ``credentials`` (see :class:`ServerCredentials`). ``resolver`` is asked in place of the system's. Belongs to one
    event loop. Raises ``ValueError`` where no address is named.
    """

    def __init__(
        self,
        addresses: str | Sequence[str],
        *,
        connect: Callable[[str], ServerClient] | None = None,
        resolver: Resolver | None = None,
        token: str | None = None,
        credentials: ServerCredentials | None = None,
    ) -> None:
        given = addresses.split(",") if isinstance(addresses, str) else list(addresses)
        given = [address.strip() for address in given if address.strip()]
        if not given:
            raise ValueError("name at least one avatar server")
        self.placement = Placement()
        self._given = given
        self._discovery = Discovery(
            given, self.placement, connect or by_address(token, credentials), resolver
        )
        self._replicas = Replicas(self.placement, self._discovery.clients)
        self._warm: asyncio.Task[None] | None = None
        self._even_after = 0.0

    async def __aenter__(self) -> ServerPool:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Find the servers and start to watch them; does not wait for one to answer."""
        if self._warm is None:
            await self._discovery.start()
            self._warm = logged(asyncio.create_task(self._replicas.keep_warm_forever()), "copies of avatars")

    async def close(self) -> None:
        """Stop watching and close every channel. Streams are closed by their owners."""
        warm, self._warm = self._warm, None
        if warm is not None:
            warm.cancel()
            await asyncio.gather(warm, return_exceptions=True)
        await self._replicas.close()
        await self._discovery.close()

    @property
    def clients(self) -> Mapping[str, ServerClient]:
        """The servers known now, by address."""
        return self._discovery.clients

    # -- avatars --

    async def wait_usable(self, timeout_s: float) -> None:
        """Until some server can be used. Raises :class:`ServerUnavailable` after ``timeout_s``."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.choose("") is None:
                    await self.wait_change(1.0)
        except TimeoutError:
            for refusal in self._discovery.refusals.values():
                raise AccessDenied(refusal) from None
            names = ", ".join(self._given)
            raise ServerUnavailable(f"no avatar server at {names} can be used now: start one") from None

    async def prepare(
        self, source: AvatarSource, progress: Progress | None = None, *, timeout_s: float = 10.0
    ) -> Avatar:
        """Portrait to prepared avatar on the best server; ``timeout_s`` is how long a server is waited for.

        Raises :class:`ServerUnavailable`, and :class:`InvalidRequest` on a portrait that cannot be used.
        """
        await self.wait_usable(timeout_s)
        client = self.choose("")
        if client is None:
            raise ServerUnavailable("no avatar server can be used now: start one")
        avatar = await client.prepare_source(source, progress)
        self.remember(avatar, source)
        self._replicas.note(client.address, avatar.avatar_id)
        return avatar

    def remember(self, avatar: Avatar, source: AvatarSource | None) -> None:
        """What an avatar can be prepared from again, on a server that does not know it."""
        self._replicas.remember(avatar, source)

    def forget(self, avatar: Avatar) -> None:
        """Let go of what was remembered of an avatar that nobody speaks with here."""
        self._replicas.forget(avatar)

    async def fetch_body(self, avatar: Avatar, cache: BodyCache) -> Body:
        """The avatar's body, from the cache or from a server that has it or can prepare it.

        Raises :class:`ServerUnavailable`, :class:`AvatarUnknown` and :class:`BodyCorrupt`.
        """
        body = await asyncio.to_thread(cache.get, avatar)
        if body is not None:
            return body
        client = self.choose(avatar.avatar_id)
        if client is None:
            raise ServerUnavailable("no avatar server can be used now, so the body cannot be fetched")
        try:
            return await client.fetch_body(avatar, cache)
        except AvatarUnknown:
            await self.prepare_on(client, avatar)
            return await client.fetch_body(avatar, cache)

    async def ready(
        self,
        source: AvatarSource,
        bodies: BodyCache,
        *,
        avatar: Avatar | None = None,
        on_wait: OnWait = lambda reason: None,
    ) -> tuple[Avatar, Body]:
        """Portrait to prepared avatar and its body, tried until both are here: servers may be away, a disk full.

        ``avatar`` is what was prepared of the portrait before: its body is fetched, and only what no server makes
        anything of any more is prepared again. Raises :class:`InvalidRequest` on a portrait that cannot be used.
        """
        told = ""

        def tell(reason: str) -> None:
            nonlocal told
            if reason != told:
                told = reason
                on_wait(reason)

        while True:
            try:
                if avatar is None:
                    await self._usable(tell)
                    avatar = await self.prepare(source)
                self.remember(avatar, source)
                try:
                    return avatar, await self.fetch_body(avatar, bodies)
                except BaseException:
                    self.forget(avatar)
                    raise
            except (VisavisError, OSError) as error:
                if isinstance(error, InvalidRequest) and not isinstance(error, AnotherBody):
                    raise
                if not isinstance(error, ServerUnavailable | OSError):
                    avatar = None
                if isinstance(error, OSError):
                    reason = error.strerror or str(error)
                    tell(
                        f"the cache of bodies, {bodies.directory}, cannot be written ({reason}): make room there"
                    )
                else:
                    tell(str(error) or type(error).__name__)
                await asyncio.sleep(_RETRY_S)

    async def _usable(self, tell: OnWait) -> None:
        """Until some server can be used, however long that takes."""
        try:
            await self.wait_usable(_USABLE_S)
        except ServerUnavailable as error:
            tell(str(error))
            while self.choose("") is None:
                await self.wait_change(_RETRY_S)
            tell("")

    def session(
        self,
        source: AvatarSource,
        *,
        bodies: BodyCache | None = None,
        session_id: str = "",
        on_event: Callable[[SessionEvent], None] | None = None,
        timeout_s: float | None = 60.0,
    ) -> AvatarSession:
        """One conversation with the avatar of ``source``, for ``async with``; see :class:`AvatarSession`.

        ``bodies``: where loops are kept (``~/.cache/visavis/bodies``); ``session_id`` is for logs and seeds the
        idle variation; ``on_event`` hears of speech that started and finished, and of servers that come and go.
        """
        return AvatarSession(
            self, source, bodies=bodies, session_id=session_id, on_event=on_event, timeout_s=timeout_s
        )

    def open(
        self,
        avatar: Avatar,
        *,
        source: AvatarSource | None = None,
        session_id: str = "",
        body_sha256: bytes = b"",
        follows_path: bool = False,
        on_event: OnEvent | None = None,
    ) -> AvatarStream:
        """One conversation with ``avatar``; returns at once, :class:`Connected` tells when a server is there.

        ``source`` lets a server that does not know the avatar prepare it; ``body_sha256`` names the caller's
        copy of the body (empty: whole frames). ``follows_path``: its playout goes where frames say that the body
        is, so that the head moves with the voice.
        """
        self.remember(avatar, source)
        return AvatarStream(
            self,
            avatar,
            session_id=session_id,
            body_sha256=body_sha256,
            follows_path=follows_path,
            on_event=on_event,
        )

    # -- for streams --

    def choose(self, avatar_id: str, exclude: Collection[str] = ()) -> ServerClient | None:
        """The best server for a conversation now, ``None`` where none can be used."""
        address = self.placement.choose(avatar_id, asyncio.get_running_loop().time(), exclude)
        return self._discovery.clients.get(address) if address else None

    def better(self, address: str, avatar: Avatar) -> ServerClient | None:
        """An idler server for a conversation of ``address`` to speak its next turn on."""
        now = asyncio.get_running_loop().time()
        if now < self._even_after:
            return None
        better = self.placement.better(address, avatar.avatar_id, now)
        if better is None:
            return None
        self._even_after = now + _EVEN_S
        return self._discovery.clients.get(better)

    def avatar_id_on(self, address: str, avatar: Avatar) -> str:
        """The id that the avatar has on this server (another engine build has ids of its own)."""
        return self._replicas.id_on(address, avatar)

    async def prepare_on(self, client: ServerClient, avatar: Avatar) -> str:
        """Have the avatar on this server; returns its id there.

        Raises :class:`AvatarUnknown` where it cannot be had, ``TimeoutError`` after two minutes.
        """
        return await self._replicas.prepare_on(client, avatar)

    def failed(self, address: str, failure: Failure) -> None:
        """A conversation could not go on there."""
        self.placement.on_failure(address, failure, asyncio.get_running_loop().time())

    def opening(self, address: str, change: int) -> None:
        """A conversation is being opened there (1), or that is over (-1)."""
        self.placement.on_opening(address, change)

    def opened(self, address: str, avatar: Avatar, avatar_id: str) -> None:
        """A conversation is open there."""
        self._replicas.use(avatar, 1)
        self._discovery.entered(address)
        self.placement.on_opened(address, avatar_id)

    def closed(self, address: str, avatar: Avatar) -> None:
        """A conversation there is over."""
        self._replicas.use(avatar, -1)
        self.placement.on_closed(address)
        self._discovery.left(address)

    def served(self, address: str) -> None:
        """Frames come from there."""
        self.placement.on_served(address)

    async def wait_change(self, timeout_s: float) -> None:
        """Until there is news of some server or one may be tried again, at most ``timeout_s``."""
        now = asyncio.get_running_loop().time()
        retry = self.placement.retry_at(now)
        if retry is not None:
            timeout_s = min(timeout_s, retry - now + 0.001)
        await self._discovery.wait(timeout_s)


def by_address(token: str | None, credentials: ServerCredentials | None) -> Callable[[str], ServerClient]:
    """Makes clients over HTTP for URLs, else over gRPC, with these credentials."""

    def connect(address: str) -> ServerClient:
        if address.startswith(("http://", "https://")):
            from visavis.client.http import (
                HttpServerClient,  # each here, so that a pool loads no other transport
            )

            return HttpServerClient(address, token=token, credentials=credentials)
        from visavis.client.grpc import GrpcServerClient

        return GrpcServerClient(address, token=token, credentials=credentials)

    return connect
