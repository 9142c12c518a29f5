"""ICE over TCP (RFC 6544): where no UDP gets through, packets of a browser's connection go on to its call's port.

The media worker sees one more UDP peer: it authenticates checks, shakes hands and protects as ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

from orchestrator.rtp.framing import Deframer, FramingError, framed
from orchestrator.rtp.ice import addressed_ufrag
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log(__name__)

MOST_CONNECTIONS = 500
FIRST_CHECK_S = 10.0
MOST_UNSENT = 262_144
"""Bytes that wait for a slow connection; then packets are dropped, as UDP would."""
_MOST_EARLY = 16


class IceTcp:
    """The connections of all calls; ``port_of`` is the UDP port of the call that has a user fragment of ours."""

    def __init__(self, media_host: str, port_of: Callable[[str], int | None]) -> None:
        self.media_host = media_host
        self.port_of = port_of
        self._connections: set[IceTcpConnection] = set()

    def accept(self) -> IceTcpConnection:
        """The protocol of a connection that begins with a packet's length and no letter of HTTP's."""
        return IceTcpConnection(self)

    def opened(self, connection: IceTcpConnection) -> bool:
        """Whether it may stay."""
        if len(self._connections) >= MOST_CONNECTIONS:
            return False
        self._connections.add(connection)
        return True

    def closed(self, connection: IceTcpConnection) -> None:
        self._connections.discard(connection)

    def close(self) -> None:
        """End them all."""
        for connection in list(self._connections):
            connection.close()


class IceTcpConnection(asyncio.Protocol):
    """One browser's connection."""

    def __init__(self, owner: IceTcp) -> None:
        self._owner = owner
        self._deframer = Deframer()
        self._transport: asyncio.Transport | None = None
        self._udp: asyncio.DatagramTransport | None = None
        self._opening: asyncio.Task[None] | None = None
        self._early: list[bytes] = []
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if not self._owner.opened(self):
            self.close()
            return
        self._patience = asyncio.get_running_loop().call_later(FIRST_CHECK_S, self._give_up)

    def data_received(self, data: bytes) -> None:
        try:
            packets = self._deframer.feed(data)
        except FramingError:
            self.close()
            return
        for packet in packets:
            if self._udp is not None:
                self._udp.sendto(packet)
            elif self._opening is None:
                self._open(packet)
            elif len(self._early) < _MOST_EARLY:
                self._early.append(packet)

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.closed(self)
        if self._patience is not None:
            self._patience.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self._udp is not None:
            self._udp.close()

    def close(self) -> None:
        """What waits to be sent is not."""
        if self._transport is not None:
            self._transport.abort()

    def send(self, packet: bytes) -> None:
        """To the browser."""
        transport = self._transport
        if transport is not None and transport.get_write_buffer_size() < MOST_UNSENT:
            transport.write(framed(packet))

    def _give_up(self) -> None:
        if self._udp is None:
            self.close()

    def _open(self, first: bytes) -> None:
        """The first packet must be a check of a call under way; whether it is authentic is the worker's to say."""
        port = self._owner.port_of(addressed_ufrag(first))
        if port is None:
            self.close()
            return
        self._early.append(first)
        self._opening = logged(asyncio.get_running_loop().create_task(self._connect(port)), "ice tcp")

    async def _connect(self, port: int) -> None:
        loop = asyncio.get_running_loop()
        address = (self._owner.media_host, port)
        try:
            udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), remote_addr=address)
        except OSError as error:
            log.warning("ice_tcp_failed", reason=error)
            self.close()
            return
        self._udp = udp
        for packet in self._early:
            udp.sendto(packet)
        self._early.clear()


class _Udp(asyncio.DatagramProtocol):
    """The other side of a connection."""

    def __init__(self, connection: IceTcpConnection) -> None:
        self._connection = connection

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._connection.send(data)

    def error_received(self, exc: Exception) -> None:
        """The call is over: its end comes by signalling."""
