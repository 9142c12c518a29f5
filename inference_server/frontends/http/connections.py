"""TCP connections of the HTTP face: counted, never silent for long, and cut where nobody reads.

By uvicorn's protocol classes, since its settings have none of this: ``limit_concurrency`` counts only connections
that have sent a request, ``timeout_keep_alive`` only those that have had an answer, and no setting ends a WebSocket
that reads nothing.
"""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Any

import h11
from uvicorn._types import ASGISendEvent
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from inference_server.frontends.http.schemas import Problem

SILENT_S = 15.0  # a connection without a whole request head for this long is closed
ABORT_S = 5.0  # what a closed connection may take to hand over what is in its buffer


def _head_and_body(status: int, sentence: str, kind: str) -> tuple[list[tuple[bytes, bytes]], bytes]:
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=sentence, kind=kind)
    data = body.model_dump_json().encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(data)).encode()),
        (b"connection", b"close"),
    ]
    return headers, data


def http_protocol(most: int) -> type[H11Protocol]:
    """uvicorn's protocol with at most ``most`` connections, sockets included."""

    class Connection(H11Protocol):
        silent: asyncio.TimerHandle | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if len(self.connections) > most:
                self._refuse(
                    503, f"All {most} connections of this server are open: try again soon or elsewhere."
                )
                self.loop.call_later(ABORT_S, transport.abort)
                return
            self._expect_request()

        def data_received(self, data: bytes) -> None:
            if not self.transport.is_closing():
                super().data_received(data)

        def on_response_complete(self) -> None:
            super().on_response_complete()
            self._expect_request()

        def connection_lost(self, exc: Exception | None) -> None:
            if self.silent is not None:
                self.silent.cancel()
            super().connection_lost(exc)

        def send_400_response(self, msg: str) -> None:
            self._refuse(400, "These bytes are no HTTP/1.1 request: see /docs for what this port speaks.")

        def _expect_request(self) -> None:
            if self.silent is not None:
                self.silent.cancel()
            self.silent = self.loop.call_later(SILENT_S, self._on_silence, self.cycle)

        def _on_silence(self, before: Any) -> None:
            mine = self.transport.get_protocol() is self  # else it has become a WebSocket
            if mine and self.cycle is before and not self.transport.is_closing():
                self.transport.abort()

        def _refuse(self, status: int, sentence: str) -> None:
            kind = "unavailable" if status == 503 else "invalid_argument"
            headers, data = _head_and_body(status, sentence, kind)
            if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                head = h11.Response(
                    status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()
                )
                self.transport.write((self.conn.send(head) or b"") + data)
            self.transport.close()

    return Connection


class SocketProtocol(WebSocketsSansIOProtocol):
    """A WebSocket whose peer cannot keep it open by reading nothing, and learns why it was closed."""

    def data_received(self, data: bytes) -> None:
        if self.conn.parser_exc is None:
            super().data_received(data)

    def handle_parser_exception(self) -> None:
        # A connection that is closed with bytes unread is reset, and what was sent is lost with it (RFC 9112
        # section 9.6): what the peer still sends is read and forgotten until it has seen the reason.
        self.close_timer = self.loop.call_later(ABORT_S, self.transport.abort)
        ended = self.conn.close_sent
        assert ended is not None
        self.queue.put_nowait({"type": "websocket.disconnect", "code": ended.code, "reason": ended.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()

    async def send(self, message: ASGISendEvent) -> None:
        try:
            await super().send(message)
        except RuntimeError:
            if self.conn.parser_exc is None:
                raise
            raise ClientDisconnected from None  # closed by us while the application was about to speak

    async def run_asgi(self) -> None:
        await super().run_asgi()
        self.loop.call_later(ABORT_S, self.transport.abort)

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()
