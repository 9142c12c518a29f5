"""One UDP socket, one TCP or TLS connection: bytes between the network and the transports that own them."""

from __future__ import annotations

import asyncio
from typing import Protocol, cast

from orchestrator.sip.transport.addresses import route_source
from orchestrator.sip.transport.flow import Address, Flow
from orchestrator.sip.transport.framing import PONG, Framer, FramingError
from visavis.service.acceptor import Guest
from visavis.service.logs import Log

log = Log(__name__)

IDLE_SECONDS = 3600.0
FIRST_MESSAGE_SECONDS = 32.0
MAX_BACKLOG = 1_048_576


class Owner(Protocol):
    """What sockets tell their owner."""

    def received(self, data: bytes, flow: Flow, *, stream: bool) -> None: ...

    def sent(self, data: bytes, remote: Address) -> None: ...

    def sent_by(self, transport: str, local: Address) -> str:
        """What Via and Contact name."""

    def opened(self, connection: Connection) -> None: ...

    def closed(self, connection: Connection) -> None: ...


class UdpEndpoint(asyncio.DatagramProtocol):
    """One UDP socket."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.DatagramTransport | None = None
        self._local_for: dict[str, str] = {}
        self.bound: Address = ("", 0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)
        self.bound = transport.get_extra_info("sockname")[:2]

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(data) > 4:  # anything shorter is a keepalive
            self._owner.received(data, self.flow_to(addr[:2]), stream=False)

    def error_received(self, exc: Exception) -> None:
        log.debug("udp_error", error=exc)

    def flow_to(self, remote: Address) -> Flow:
        local = (self._local_host(remote[0]), self.bound[1])
        return Flow("UDP", local, remote, self._send, self._owner.sent_by("UDP", local))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _send(self, data: bytes, remote: Address) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        try:
            self._transport.sendto(data, remote)
            self._owner.sent(data, remote)
        except (OSError, ValueError) as error:
            log.info("udp_unsent", remote=f"{remote[0]}:{remote[1]}", error=error)

    def _local_host(self, remote: str) -> str:
        """Our address as seen from `remote`: the bound one, or the route's where a wildcard is bound."""
        if self.bound[0] not in ("0.0.0.0", "::"):
            return self.bound[0]
        found = self._local_for.get(remote)
        if found is None:
            found = route_source(remote) or self.bound[0]
            if len(self._local_for) > 1024:
                self._local_for.clear()
            self._local_for[remote] = found
        return found


class Connection(asyncio.Protocol):
    """One TCP or TLS connection, accepted (of a guest) or made.

    `server_name` is what its certificate was checked for.
    """

    def __init__(
        self,
        owner: Owner,
        transport_name: str,
        guest: Guest | None = None,
        *,
        server_name: str = "",
    ) -> None:
        self._owner = owner
        self._name = transport_name
        self._guest = guest
        self.server_name = server_name
        self._framer = Framer()
        self._transport: asyncio.Transport | None = None
        self._idle: asyncio.TimerHandle | None = None
        self._answered_pings = 0
        self.flow = Flow(transport_name, ("", 0), ("", 0), self._send)

    @property
    def key(self) -> tuple[str, str, int]:
        return (self._name, *self.flow.remote)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.flow.local = transport.get_extra_info("sockname")[:2]
        self.flow.remote = transport.get_extra_info("peername")[:2]
        self.flow.sent_by = self._owner.sent_by(self._name, self.flow.local)
        if self._guest is not None and self._guest.excess:
            self._transport.abort()
            return
        self._owner.opened(self)
        self._wait(FIRST_MESSAGE_SECONDS)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._framer.feed(data)
            if messages and self._guest is not None:
                self._guest.spoke = True
            if messages or self._framer.pings:
                self._wait(IDLE_SECONDS)  # bytes alone do not keep a connection open
            for message in messages:
                self._owner.received(message, self.flow, stream=True)
            if self._framer.lost:
                raise FramingError("a body without Content-Length")
        except FramingError as error:
            log.info("stream_broken", source=self.flow.remote[0], reason=error)
            self.close()
            return
        if self._framer.pings > self._answered_pings:
            self._answered_pings = self._framer.pings
            self._send(PONG, self.flow.remote)

    def connection_lost(self, exc: Exception | None) -> None:
        self.flow.closed = True
        if self._idle is not None:
            self._idle.cancel()
        if self._guest is not None:
            self._guest.gone()
        self._owner.closed(self)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _send(self, data: bytes, remote: Address) -> None:
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if transport.get_write_buffer_size() > MAX_BACKLOG:
            transport.abort()  # a peer that stopped reading
            return
        transport.write(data)
        self._owner.sent(data, remote)

    def _wait(self, seconds: float) -> None:
        if self._idle is not None:
            self._idle.cancel()
        self._idle = asyncio.get_running_loop().call_later(seconds, self.close)
