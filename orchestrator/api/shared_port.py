"""One TCP port for the API and for media: a connection that begins with a zero byte is none of HTTP's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from visavis.service.http_server import HttpProtocol

MEDIA_FIRST = b"\0"
"""A framed connectivity check begins with its length, which is below 256 (RFC 4571); a request with a letter."""


def sharing(other: Callable[[], asyncio.Protocol]) -> type[HttpProtocol]:
    """A protocol class for the API's server that gives connections of media to a protocol that ``other`` makes."""

    class SharedPort(HttpProtocol):
        _decided = False

        def data_received(self, data: bytes) -> None:
            if not self._decided and not self.transport.is_closing():
                self._decided = True
                if data.startswith(MEDIA_FIRST) and self.scheme == "http":
                    self.connections.discard(self)
                    self.guest.spoke = True
                    protocol = other()
                    self.transport.set_protocol(protocol)
                    protocol.connection_made(self.transport)
                    protocol.data_received(data)
                    return
            super().data_received(data)

    return SharedPort
