"""TCP connections of the HTTP face: what they are refused with, and WebSockets whose peer cannot keep them open.

No setting of uvicorn ends a WebSocket that reads nothing.
"""

from __future__ import annotations

from http import HTTPStatus

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from inference_server.frontends.http.schemas import Problem
from visavis.service.http_server import ABORT_S


def refusal(status: int, sentence: str) -> bytes:
    """A problem as HTTP says it."""
    kind = "unavailable" if status == 503 else "invalid_argument"
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=sentence, kind=kind)
    return body.model_dump_json().encode()


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
