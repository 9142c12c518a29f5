"""Messages over a local socket, the same at both ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Generic, TypeVar

from visavis.service.ipc import BadFrame, BadMessage, Codec
from visavis.service.logs import Log

log = Log(__name__)

M = TypeVar("M")

_MOST_UNSENT = 64 << 20
_PIECE = 1 << 20


class ChannelClosed(ConnectionError):
    """The other process is gone."""


class Channel(Generic[M]):
    """``send`` never blocks; a peer that does not read for long is given up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, codec: Codec[M]) -> None:
        self._reader, self._writer = reader, writer
        self._codec = codec
        self._decoder = codec.decoder()

    @classmethod
    async def over(cls, sock: socket.socket, codec: Codec[M]) -> Channel[M]:
        """Take a connected stream socket."""
        return cls(*await asyncio.open_connection(sock=sock, limit=_PIECE), codec)

    @property
    def unsent(self) -> int:
        """Bytes that the other side has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, message: M) -> None:
        """Queue a message; raises ``ChannelClosed``, and ``BadMessage`` for one that is too long."""
        if self._writer.is_closing():
            raise ChannelClosed("the channel is closed")
        if self.unsent > _MOST_UNSENT:
            self.abort()
            raise ChannelClosed("the other end of the channel has stopped reading")
        self._writer.write(self._codec.encode(message))

    async def drain(self) -> None:
        """Wait until little is unsent."""
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    def at_hand(self) -> M | None:
        """The next message, where it has come whole already; nonsense is left out, and logged."""
        while True:
            try:
                return next(self._decoder, None)
            except BadFrame as error:
                self.abort()
                raise ChannelClosed(f"nonsense on the channel: {error}") from error
            except BadMessage as error:
                log.warning("message_not_understood", reason=str(error))

    async def receive(self) -> M:
        """The next message; raises ``ChannelClosed`` at the end."""
        while (message := self.at_hand()) is None:
            try:
                data = await self._reader.read(_PIECE)
            except ConnectionError as error:
                raise ChannelClosed("the channel was closed") from error
            if not data:
                raise ChannelClosed("the channel was closed")
            self._decoder.feed(data)
        return message

    def close(self) -> None:
        """Close this end; what is unsent goes out before."""
        self._writer.close()

    def abort(self) -> None:
        """Close this end at once, and end ``receive``."""
        self._writer.transport.abort()
