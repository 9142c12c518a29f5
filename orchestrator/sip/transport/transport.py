"""Sockets: UDP, TCP and TLS listeners, and the connections made from here (RFC 3261 section 18)."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import socket
import ssl
from typing import Protocol

from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.grammar import Uri
from orchestrator.sip.transport.addresses import route_source, split_address, udp_socket
from orchestrator.sip.transport.dns import Resolver
from orchestrator.sip.transport.endpoints import Connection, UdpEndpoint
from orchestrator.sip.transport.flow import Address, Flow, bracketed
from orchestrator.sip.transport.locate import Hop, locate
from orchestrator.sip.transport.tls import client_context, server_context, untrusted
from visavis.service.acceptor import Acceptor, ConnectionLimits

UDP_LIMIT = 1300
CONNECT_SECONDS = 5.0
MAX_CONNECTIONS = 2000
MAX_CONNECTIONS_PER_HOST = 200


class Receiver(Protocol):
    """Who takes what arrives, and is told of what was sent and closed."""

    def receive(self, data: bytes, flow: Flow, *, stream: bool = False) -> None: ...

    def on_sent(self, data: bytes, remote: Address) -> None: ...

    def accepts(self, host: str) -> bool: ...

    def on_closed_flow(self, flow: Flow) -> None: ...


class Transports:
    """Every socket of one stack."""

    def __init__(self, config: SipConfig, receiver: Receiver) -> None:
        self._config = config
        self._receiver = receiver
        self._names = Resolver(config.nameserver)
        self._udp: list[UdpEndpoint] = []
        self._limits = ConnectionLimits(MAX_CONNECTIONS, MAX_CONNECTIONS_PER_HOST)
        self._servers: list[Acceptor] = []
        self._connections: dict[tuple[str, str, int], Connection] = {}
        self._connecting: dict[tuple[str, str, int, str], asyncio.Task[Flow]] = {}
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
                    family = socket.AF_INET6 if ":" in host else socket.AF_INET
                    listener = socket.create_server((host, port), family=family)
                except OSError as error:
                    told = os.strerror(error.errno) if error.errno else error
                    raise OSError(f"cannot listen for SIP on {transport} {text}: {told}") from error
                self.addresses[transport].append(listener.getsockname()[:2])
                self._servers.append(
                    Acceptor(
                        listener,
                        functools.partial(Connection, self, transport),
                        self._limits,
                        tls=context,
                        admits=self._receiver.accepts,
                    )
                )

    async def close(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()
        for endpoint in self._udp:
            endpoint.close()
        for connection in list(self._everything):
            connection.close()
        for task in self._connecting.values():
            task.cancel()
        await asyncio.gather(*self._connecting.values(), return_exceptions=True)
        for _ in range(3):
            await asyncio.sleep(0)

    async def locate(self, uri: Uri) -> list[Hop]:
        """The ways to a URI, in the order to try (RFC 3263). Raises OSError where there is none."""
        return await locate(uri, self._names)

    def local_host(self, hop: Hop) -> str:
        """Our address towards a hop: the one we listen on, or the route's. Raises OSError without a route."""
        version = 6 if ":" in hop.host else 4
        for host, _ in (address for bound in self.addresses.values() for address in bound):
            if (6 if ":" in host else 4) == version and host not in ("0.0.0.0", "::"):
                return host
        source = route_source(hop.host)
        if source is None:
            raise OSError(f"no route to {hop.host}")
        return source

    async def open_flow(self, hop: Hop, *, size: int = 0) -> Flow:
        """A flow over a hop. What does not fit UDP tries TCP first (section 18.1.1). Raises OSError."""
        if hop.transport != "UDP":
            return await self._connect(hop.transport, hop.host, hop.port, hop.domain)
        if size > UDP_LIMIT and not hop.chosen:
            with contextlib.suppress(OSError, TimeoutError):
                return await self._connect("TCP", hop.host, hop.port, "")
        return self._udp_flow((hop.host, hop.port))

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

    def opened(self, connection: Connection) -> None:
        """A connection is open from now on."""
        self._everything.add(connection)
        self._connections[connection.key] = connection

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
        existing = self._connections.get((transport, host, port))
        # A TLS connection is good for the domain that its certificate was checked for (RFC 5922), and for its
        # bare address, which Contact and Record-Route often name.
        known = transport != "TLS" or existing is None or server_name in (existing.server_name, host)
        if existing is not None and not existing.flow.closed and known:
            return existing.flow
        key = (transport, host, port, server_name)
        task = self._connecting.get(key)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._dial(transport, host, port, server_name))
            self._connecting[key] = task
            task.add_done_callback(lambda _: self._connecting.pop(key, None))
        return await asyncio.shield(task)

    async def _dial(self, transport: str, host: str, port: int, server_name: str) -> Flow:
        context = client_context(self._config.tls_config) if transport == "TLS" else None
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                _, connection = await loop.create_connection(
                    lambda: Connection(self, transport, server_name=server_name),
                    host,
                    port,
                    ssl=context,
                    server_hostname=(server_name or host) if context else None,
                )
        except ssl.SSLCertVerificationError as error:
            raise untrusted(error, server_name or host) from error
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
