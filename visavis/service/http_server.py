"""uvicorn with bounds that it has no settings for: connections counted and never silent, requests that go on.

``limit_concurrency`` counts only connections that have sent a request, ``timeout_keep_alive`` only those that have
had an answer, and no setting ends one that sends its request byte by byte.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from visavis.service.acceptor import Acceptor, ConnectionLimits, Guest

SILENT_S = 15.0  # a connection without a whole request head for this long is closed
BODY_S = 30.0  # a body of which less than LEAST_BODY comes in this time, while it is read, is given up
LEAST_BODY = 1024
ABORT_S = 5.0  # what a closed connection may take to hand over what is in its buffer

Refusal = Callable[[int, str], bytes]
"""The body of a problem (RFC 9457), by status and sentence."""


def plain_problem(status: int, sentence: str) -> bytes:
    """A problem with no members of its own."""
    told = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": sentence}
    return json.dumps(told).encode()


class HttpProtocol(H11Protocol):
    """One connection; ``guest`` and ``refusal`` are set before it is made."""

    guest: Guest
    refusal: Refusal
    most = 0
    _silent: asyncio.TimerHandle | None = None
    _received = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.guest.excess:
            self._refuse(
                503, f"All {self.most} connections of this server are open: try again soon or elsewhere."
            )
            self.loop.call_later(ABORT_S, transport.abort)
            return
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            self._received += len(data)
            before = self.cycle
            super().data_received(data)
            if self.cycle is not before:
                self.guest.spoke = True
                self._expect_body()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._expect_request()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self.guest.spoke = True
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._silent is not None:
            self._silent.cancel()
        self.guest.gone()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, "These bytes are no HTTP/1.1 request: see /docs for what this port speaks.")

    def _in(self, seconds: float, callback: Callable[..., None], *arguments: Any) -> None:
        if self._silent is not None:
            self._silent.cancel()
        self._silent = self.loop.call_later(seconds, callback, *arguments)

    def _is_mine(self) -> bool:
        """Whether it has not become a WebSocket, and is not closed."""
        return self.transport.get_protocol() is self and not self.transport.is_closing()

    def _expect_request(self) -> None:
        self._in(SILENT_S, self._on_silence, self.cycle)

    def _on_silence(self, before: Any) -> None:
        if self._is_mine() and self.cycle is before:
            self.transport.abort()

    def _expect_body(self) -> None:
        self._in(BODY_S, self._on_slow_body, self.cycle, self._received)

    def _on_slow_body(self, cycle: Any, received: int) -> None:
        if not self._is_mine() or self.cycle is not cycle or not cycle.more_body or cycle.response_complete:
            return
        if self._received - received < LEAST_BODY and not self.flow.read_paused:
            self.transport.abort()
            return
        self._expect_body()

    def _refuse(self, status: int, sentence: str) -> None:
        data = self.refusal(status, sentence)
        headers = [
            (b"content-type", b"application/problem+json"),
            (b"content-length", str(len(data)).encode()),
            (b"connection", b"close"),
        ]
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            head = h11.Response(
                status_code=status, headers=headers, reason=HTTPStatus(status).phrase.encode()
            )
            self.transport.write((self.conn.send(head) or b"") + data)
        self.transport.close()


class HttpServer(uvicorn.Server):
    """Serves sockets that are given to it, at most ``most`` connections. Signals are the process's own business."""

    def __init__(
        self,
        config: uvicorn.Config,
        most: int,
        refusal: Refusal = plain_problem,
        *,
        kind: type[HttpProtocol] = HttpProtocol,
    ) -> None:
        super().__init__(config)
        self._limits = ConnectionLimits(most)
        self._refusal = refusal
        self._kind = kind

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn does, with acceptors of ours."""
        await self.lifespan.startup()
        self.servers: list[Any] = []
        for sock in sockets or ():
            acceptor = Acceptor(sock.dup(), self._protocol, self._limits, tls=self.config.ssl)
            self.servers.append(acceptor)
        self.started = True

    def _protocol(self, guest: Guest) -> HttpProtocol:
        protocol = self._kind(self.config, self.server_state, self.lifespan.state)
        protocol.guest, protocol.refusal, protocol.most = guest, self._refusal, self._limits.most
        return protocol
