"""Cutting a byte stream into SIP messages (RFC 3261 section 18.3) and keepalives (RFC 5626). Sans-IO."""

from __future__ import annotations

import re

from orchestrator.sip.message.parsing import MAX_HEAD

MAX_BODY = 262_144
_LENGTH = re.compile(rb"(?im)^(?:content-length|l)[ \t]*:([^\n]*)$")
_TYPE = re.compile(rb"(?im)^(?:content-type|c)[ \t]*:")
_PADDING = re.compile(rb"\0+|\r\n|[\r\n]")
PING = b"\r\n\r\n"
PONG = b"\r\n"


class FramingError(ValueError):
    """The stream cannot be understood any more: the connection must be closed."""


class Framer:
    """The framing of one connection: `feed` returns the whole messages so far.

    `pings` counts double-CRLF keepalives to answer with PONG. `lost` is set by a message with a body of unknown
    length: nothing is found behind it, and the connection must be closed once it was answered.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._total = 0  # octets of the message that has begun, once its head is there
        self.pings = 0
        self.lost = False

    def feed(self, data: bytes) -> list[bytes]:
        self._buffer += data
        messages: list[bytes] = []
        while not self.lost:
            self._skip_keepalives()
            message = self._next()
            if message is None:
                return messages
            messages.append(message)
        self._buffer.clear()
        return messages

    def _skip_keepalives(self) -> None:
        """Between messages: CRLFs, and what phones put there besides, zero bytes and halves of a CRLF."""
        buffer = self._buffer
        while buffer:
            if buffer.startswith(PING):
                self.pings += 1
                del buffer[: len(PING)]
            elif PING.startswith(bytes(buffer[: len(PING)])):
                return  # the rest of it may still come
            elif padding := _PADDING.match(buffer):
                del buffer[: padding.end()]
            else:
                return

    def _next(self) -> bytes | None:
        self._total = self._total or self._measure()
        if not self._total or len(self._buffer) < self._total:
            return None
        message = bytes(self._buffer[: self._total])
        del self._buffer[: self._total]
        self._total = 0
        return message

    def _measure(self) -> int:
        """The octets of the next message, 0 where its head is not whole."""
        end = self._buffer.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise FramingError("headers too long")
            return 0
        head = bytes(self._buffer[: end + 2])
        lengths = {value.strip() for value in _LENGTH.findall(head)}
        if len(lengths) > 1 or (lengths and not next(iter(lengths)).isdigit()):
            raise FramingError("no usable Content-Length")
        self.lost = not lengths and _TYPE.search(head) is not None
        text = next(iter(lengths), b"0")
        if len(text) > 9 or int(text) > MAX_BODY:
            raise FramingError("body too long")
        return end + 4 + int(text)
