"""One TCP port for the API and for media: a connection that begins with a zero byte is none of HTTP's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from uvicorn.protocols.http.h11_impl import H11Protocol

MEDIA_FIRST = b"\0"
"""A framed connectivity check begins with its length, which is below 256 (RFC 4571); a request with a letter."""


def sharing(other: Callable[[], asyncio.Protocol]) -> type[asyncio.Protocol]:
    """A protocol class for uvicorn that gives connections of media to a protocol that ``other`` makes."""

    class SharedPort(H11Protocol):
        _decided = False

        def data_received(self, data: bytes) -> None:
            if not self._decided:
                self._decided = True
                if data.startswith(MEDIA_FIRST) and self.scheme == "http":
                    self.connections.discard(self)
                    protocol = other()
                    self.transport.set_protocol(protocol)
                    protocol.connection_made(self.transport)
                    protocol.data_received(data)
                    return
            super().data_received(data)

    return SharedPort
