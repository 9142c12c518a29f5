"""Sockets: UDP, TCP and TLS listeners, and the connections made from here (RFC 3261 section 18)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from typing import Protocol, cast

from .addresses import resolve, route_source, split_address, udp_socket
from .config import SipConfig
from .flow import DEFAULT_PORTS, Address, Flow, bracketed
from .framing import PONG, Framer, FramingError
from .grammar import Uri
from .tls import client_context, server_context

log = logging.getLogger(__name__)

UDP_LIMIT = 1300
CONNECT_SECONDS = 5.0
IDLE_SECONDS = 3600.0
FIRST_MESSAGE_SECONDS = 32.0
MAX_CONNECTIONS = 2000
MAX_CONNECTIONS_PER_HOST = 200
MAX_BACKLOG = 1_048_576


class Receiver(Protocol):
    def receive(self, data: bytes, flow: Flow, *, stream: bool = False) -> None: ...

    def on_sent(self, data: bytes, remote: Address) -> None: ...

    def accepts(self, host: str) -> bool: ...

    def on_closed_flow(self, flow: Flow) -> None: ...


class Transports:
    """Every socket of one stack."""

    def __init__(self, config: SipConfig, receiver: Receiver) -> None:
        self._config = config
        self._receiver = receiver
        self._udp: list[UdpEndpoint] = []
        self._servers: list[asyncio.Server] = []
        self._connections: dict[tuple[str, str, int], Connection] = {}
        self._connecting: dict[tuple[str, str, int], asyncio.Task[Flow]] = {}
        self._everything: set[Connection] = set()
        self.addresses: dict[str, list[Address]] = {"UDP": [], "TCP": [], "TLS": []}

    async def open(self) -> None:
        """Bind every configured address. Raises OSError naming the one that failed."""
        loop = asyncio.get_running_loop()
        for text in self._config.udp:
            host, port = split_address(text)
            try:
                sock = udp_socket(host, port)
                _, endpoint = await loop.create_datagram_endpoint(lambda: UdpEndpoint(self), sock=sock)
            except OSError as error:
                raise OSError(f"cannot listen for SIP on UDP {text}: {error.strerror or error}") from error
            self._udp.append(endpoint)
            self.addresses["UDP"].append(endpoint.bound)
        for transport, texts in (("TCP", self._config.tcp), ("TLS", self._config.tls)):
            context = server_context(self._config.tls_config) if transport == "TLS" and texts else None
            for text in texts:
                host, port = split_address(text)
                if port == 0 and transport == "TCP" and self.addresses["UDP"]:
                    port = self.addresses["UDP"][0][1] if self._same_port_is_free(host) else 0
                try:
                    server = await loop.create_server(
                        lambda name=transport: Connection(self, name), host, port, ssl=context
                    )
                except OSError as error:
                    raise OSError(f"cannot listen for SIP on {transport} {text}: {error.strerror}") from error
                self._servers.append(server)
                self.addresses[transport].append(server.sockets[0].getsockname()[:2])

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for endpoint in self._udp:
            endpoint.close()
        for connection in list(self._everything):
            connection.close()
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)

    async def flow_to(self, uri: Uri, *, size: int = 0) -> Flow:
        """The way to a URI. Over UDP only what fits goes (section 18.1.1); larger requests try TCP first."""
        if not uri.is_sip:
            raise OSError(f"no way to a {uri.scheme} URI")
        transport = uri.transport or ("TLS" if uri.scheme == "sips" else "UDP")
        if uri.scheme == "sips" and transport == "TCP":
            transport = "TLS"
        if transport not in DEFAULT_PORTS:
            raise OSError(f"no transport {transport} here")
        maddr = uri.params.get("maddr")
        host, port = await resolve(maddr or uri.bare_host, uri.port or DEFAULT_PORTS[transport])
        if transport == "UDP" and size > UDP_LIMIT and uri.transport is None:
            with contextlib.suppress(OSError, TimeoutError):
                return await self._connect("TCP", host, port, "")
        if transport == "UDP":
            return self._udp_flow((host, port))
        return await self._connect(transport, host, port, uri.bare_host)

    def sent_by(self, transport: str, local: Address) -> str:
        """What Via and Contact name: the advertised host, or the address itself, with our listening port."""
        port = local[1]
        listening = self.addresses.get(transport) or []
        if transport != "UDP" and listening:
            port = listening[0][1]
        return f"{bracketed(self._config.advertised_host or local[0])}:{port}"

    def received(self, data: bytes, flow: Flow, *, stream: bool) -> None:
        self._receiver.receive(data, flow, stream=stream)

    def sent(self, data: bytes, remote: Address) -> None:
        self._receiver.on_sent(data, remote)

    def opened(self, connection: Connection) -> bool:
        """Whether a new connection may stay."""
        host = connection.flow.remote[0]
        if not connection.outgoing:
            siblings = sum(other.flow.remote[0] == host for other in self._everything)
            full = len(self._everything) >= MAX_CONNECTIONS or siblings >= MAX_CONNECTIONS_PER_HOST
            if full or not self._receiver.accepts(host):
                return False
        self._everything.add(connection)
        self._connections[connection.key] = connection
        return True

    def closed(self, connection: Connection) -> None:
        self._everything.discard(connection)
        if self._connections.get(connection.key) is connection:
            del self._connections[connection.key]
        self._receiver.on_closed_flow(connection.flow)

    def _udp_flow(self, remote: Address) -> Flow:
        version = 6 if ":" in remote[0] else 4
        for endpoint in self._udp:
            if (6 if ":" in endpoint.bound[0] else 4) == version:
                return endpoint.flow_to(remote)
        raise OSError(f"no UDP socket for IPv{version}")

    async def _connect(self, transport: str, host: str, port: int, server_name: str) -> Flow:
        key = (transport, host, port)
        existing = self._connections.get(key)
        if existing is not None and not existing.flow.closed:
            return existing.flow
        task = self._connecting.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._dial(transport, host, port, server_name))
            self._connecting[key] = task
            task.add_done_callback(lambda _: self._connecting.pop(key, None))
        return await asyncio.shield(task)

    async def _dial(self, transport: str, host: str, port: int, server_name: str) -> Flow:
        context = client_context(self._config.tls_config) if transport == "TLS" else None
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_SECONDS):
            _, connection = await loop.create_connection(
                lambda: Connection(self, transport, outgoing=True),
                host,
                port,
                ssl=context,
                server_hostname=(server_name or host) if context else None,
            )
        return connection.flow

    def _same_port_is_free(self, host: str) -> bool:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, self.addresses["UDP"][0][1]))
            except OSError:
                return False
        return True


class UdpEndpoint(asyncio.DatagramProtocol):
    """One UDP socket."""

    def __init__(self, owner: Transports) -> None:
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
        log.debug("udp_error error=%s", exc)

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
            log.info("udp_unsent remote=%s:%d error=%s", *remote, error)

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
    """One TCP or TLS connection, accepted or made."""

    def __init__(self, owner: Transports, transport_name: str, *, outgoing: bool = False) -> None:
        self._owner = owner
        self._name = transport_name
        self.outgoing = outgoing
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
        if not self._owner.opened(self):
            self._transport.abort()
            return
        self._wait(FIRST_MESSAGE_SECONDS)

    def data_received(self, data: bytes) -> None:
        try:
            messages = self._framer.feed(data)
            if messages or self._framer.pings:
                self._wait(IDLE_SECONDS)  # bytes alone do not keep a connection open
            for message in messages:
                self._owner.received(message, self.flow, stream=True)
        except FramingError as error:
            log.info("stream_broken source=%s reason=%s", self.flow.remote[0], error)
            self.close()
            return
        if self._framer.pings > self._answered_pings:
            self._answered_pings = self._framer.pings
            self._send(PONG, self.flow.remote)

    def connection_lost(self, exc: Exception | None) -> None:
        self.flow.closed = True
        if self._idle is not None:
            self._idle.cancel()
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
