"""The HTTP face of the server: one port, in the event loop of the other faces."""

from __future__ import annotations

import asyncio
import logging
import socket

import uvicorn

from inference_server.core import Core
from inference_server.frontends.http.app import make_app
from inference_server.frontends.http.connections import SocketProtocol, refusal
from inference_server.settings import MIB
from visavis.service.http_server import HttpServer
from visavis.service.logs import Log
from visavis.service.security import Guard
from visavis.service.unhandled import logged

CLOSE_S = 2


class _Forward(logging.Handler):
    """The web server's warnings as events of ours."""

    def __init__(self, log: Log) -> None:
        super().__init__(logging.WARNING)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        told = f"{type(error).__name__}: {error}" if error else ""
        self._log.warning("http_server", reason=record.getMessage().strip(), error=told)


class HttpListener:
    """Serves one :class:`Core`."""

    def __init__(self, core: Core, guard: Guard) -> None:
        settings = core.settings
        self._closing = asyncio.Event()
        self._server = HttpServer(
            uvicorn.Config(
                make_app(core, guard, self._closing),
                ssl_context_factory=(lambda *_: settings.tls.context()) if settings.tls else None,
                ws=SocketProtocol,
                ws_max_size=max(4 * settings.audio_bytes, MIB),
                ws_per_message_deflate=False,  # deflating pixels costs tens of milliseconds a frame
                ws_ping_interval=20.0,
                ws_ping_timeout=20.0,
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=CLOSE_S,
            ),
            settings.http_connections,
            refusal,
        )
        for name in ("uvicorn.error", "websockets"):
            logger = logging.getLogger(name)
            logger.propagate = False
            logger.setLevel(logging.WARNING)
            logger.handlers = [_Forward(core.log)]
        self._task: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the bound port. Raises ``OSError`` where that is not possible."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        # the protocol by its number: asyncio turns Nagle's algorithm off for that alone
        listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
            listener.listen()
        except OSError as error:
            listener.close()
            raise OSError(f"HTTP cannot listen on {host}:{port} ({error.strerror})") from None
        self.port = listener.getsockname()[1]
        self._task = logged(asyncio.create_task(self._server.serve([listener])), "HTTP")
        while not self._server.started and not self._task.done():  # noqa: ASYNC110 - a moment
            await asyncio.sleep(0.01)
        return self.port

    async def close(self) -> None:
        """Stop listening and end what is left."""
        self._closing.set()
        self._server.should_exit = True
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_S + 3)
