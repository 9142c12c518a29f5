"""Messages over a local socket, the same at both ends."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from orchestrator.worker.messages import MAX_MESSAGE, Message, decode, encode

_MOST_UNSENT = 64 << 20


class ChannelClosed(ConnectionError):
    """The other process is gone."""


class Channel:
    """``send`` never blocks; a peer that does not read for long is given up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def over(cls, sock: socket.socket) -> Channel:
        """Take a connected stream socket."""
        return cls(*await asyncio.open_connection(sock=sock, limit=1 << 20))

    @property
    def unsent(self) -> int:
        """Bytes that the other side has not taken yet."""
        return self._writer.transport.get_write_buffer_size()

    def send(self, message: Message) -> None:
        """Queue a message; raises ``ChannelClosed``."""
        if self._writer.is_closing():
            raise ChannelClosed("the media channel is closed")
        if self.unsent > _MOST_UNSENT:
            self._writer.transport.abort()
            raise ChannelClosed("the other end of the media channel has stopped reading")
        self._writer.write(encode(message))

    async def drain(self) -> None:
        """Wait until little is unsent."""
        with contextlib.suppress(ConnectionError):
            await self._writer.drain()

    async def receive(self) -> Message:
        """The next message; raises ``ChannelClosed`` at the end, ``BadMessage`` for nonsense."""
        try:
            size = int.from_bytes(await self._reader.readexactly(4), "big")
            if not 4 <= size <= MAX_MESSAGE:
                raise ChannelClosed(f"a message of {size} bytes on the media channel")
            return decode(await self._reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise ChannelClosed("the media channel was closed") from error

    def close(self) -> None:
        """Close this end."""
        self._writer.close()
