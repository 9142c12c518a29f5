"""Discovery of avatar servers: those named, those that a DNS name or a Service of Kubernetes lists, each watched
for news of itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from visavis.client.endpoint_slices import SCHEME, EndpointSlices
from visavis.client.placement import Placement
from visavis.client.server import ServerClient
from visavis.errors import AccessDenied, VisavisError
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log("visavis.client.pool")

_LOOK_S = 5.0

Resolver = Callable[[str, Sequence[str]], Awaitable[list[str]]]
"""Addresses of a target, given those known; :func:`resolve` is one."""


class Discovery:
    """Clients of the servers at ``given``, by address; ``placement`` hears what they say.

    Belongs to one event loop.
    """

    def __init__(
        self,
        given: Sequence[str],
        placement: Placement,
        connect: Callable[[str], ServerClient],
        resolver: Resolver | None,
    ) -> None:
        self.clients: dict[str, ServerClient] = {}
        self.refusals: dict[str, str] = {}
        """Why a server does not let us in, by address."""
        self._given = given
        self._placement = placement
        self._connect = connect
        self._resolver = resolver or resolve
        self._slices = EndpointSlices()
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._news = asyncio.Event()
        self._streams: Counter[str] = Counter()  # by address
        self._retired: dict[str, ServerClient] = {}  # gone from DNS, still in use

    async def start(self) -> None:
        """Find the servers; does not wait for one to answer."""
        await self.look()
        if any(a.startswith(("dns:", SCHEME)) for a in self._given):
            self._begin(self._look_forever())

    async def close(self) -> None:
        """Stop watching and close every client."""
        tasks = [*self._tasks, *self._watches.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for client in (*self.clients.values(), *self._retired.values()):
            await client.close()
        await self._slices.close()
        for left in (self.clients, self._retired, self._watches):
            left.clear()

    async def look(self) -> None:
        """Ask again: new servers are watched, those gone are let go once no conversation is there."""
        found: list[str] = []
        for given in self._given:
            known = [a for a in self.clients if a not in self._given]
            if given.startswith(SCHEME):
                found += await self._slices.addresses(given, known)
            elif given.startswith("dns:"):
                found += await self._resolver(given, known)
            else:
                found.append(given)
        new, gone = self._placement.set_addresses(found)
        for address in gone:
            self._watches.pop(address).cancel()
            self.refusals.pop(address, None)
            client = self.clients.pop(address)
            if self._streams[address]:
                self._retired[address] = client  # conversations there go on to their end
            else:
                await client.close()
        for address in new:
            retired = self._retired.pop(address) if address in self._retired else None
            self.clients[address] = retired or self._connect(address)
            self._watches[address] = logged(
                asyncio.create_task(self._watch(self.clients[address])), f"watch of {address}"
            )
        if new or gone:
            log.info("avatar_servers_changed", servers=found)
            self._tell()

    def entered(self, address: str) -> None:
        """A conversation is there."""
        self._streams[address] += 1

    def left(self, address: str) -> None:
        """A conversation is there no more."""
        self._streams[address] -= 1
        if not self._streams[address]:
            del self._streams[address]
            if client := self._retired.pop(address, None):
                self._begin(client.close())

    async def wait(self, timeout_s: float) -> None:
        """Until there is news of some server, at most ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()

    # -- inside --

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = logged(asyncio.create_task(work), "client")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    async def _look_forever(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_S)
            await self.look()

    async def _watch(self, client: ServerClient) -> None:
        pause, told = 0.1, ""
        while True:
            try:
                async for capacity in client.watch_capacity():
                    if not self._placement.servers[client.address].reachable:
                        log.info("avatar_server_reachable", server=client.address)
                    pause, told = 0.1, ""
                    self.refusals.pop(client.address, None)
                    self._placement.on_capacity(client.address, capacity)
                    self._tell()
            except AccessDenied as e:
                if str(e) != told:  # it says the same each second
                    told = self.refusals[client.address] = str(e)
                    log.warning("avatar_server_refuses", server=client.address, reason=told)
            except VisavisError as e:
                log.warning("avatar_server_lost", server=client.address, reason=str(e))
            self._placement.on_lost(client.address)
            self._tell()
            await asyncio.sleep(pause)
            pause = min(1.0, pause * 2)


def split_target(target: str) -> tuple[str, int]:
    """Host and port of ``dns:///name:port``. Raises ``ValueError`` with what is expected."""
    host, _, port = target.removeprefix("dns:").lstrip("/").rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"{target} is not of the form dns:///name:port")
    return host.strip("[]"), int(port)


async def resolve(target: str, known: Sequence[str]) -> list[str]:
    """``host:port`` for every address of ``dns:///name:port``; ``known`` where the resolver does not answer.

    A name that exists without addresses gives none.
    """
    host, port = split_target(target)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as e:
        if e.errno in (socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)):
            return []
        log.warning("name_not_resolved", host=host, reason=str(e))
        return list(known)
    addresses = {
        f"[{at[0]}]:{port}" if family == socket.AF_INET6 else f"{at[0]}:{port}"
        for family, _, _, _, at in found
    }
    return sorted(addresses)
