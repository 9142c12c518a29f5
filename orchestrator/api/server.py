"""The ports of the API: its own, and one for probes and metrics where that is configured."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Sequence
from importlib import metadata

import uvicorn
from fastapi import FastAPI

from orchestrator.api.app import create_app, create_probes
from orchestrator.api.dependencies import Services
from orchestrator.api.shared_port import sharing
from orchestrator.config import Settings
from visavis.service.http_server import HttpProtocol, HttpServer
from visavis.service.listening import Tls, exposure
from visavis.service.logs import Log
from visavis.service.security import API_SCOPES, Guard, Tokens, need_token_file

log = Log(__name__)

CONNECTIONS = 512

HELP = "send the header Authorization: Bearer TOKEN; visavis-token prints it where the orchestrator runs."


class ApiServer:
    """Listens from the first moment on, so that two orchestrators notice each other, and answers once it serves.

    Raises ``OSError`` with one sentence where it cannot listen, or has no credentials to ask for.
    """

    def __init__(self, settings: Settings, services: Services) -> None:
        tls, insecure = settings.api_tls, settings.api_insecure
        self.address = f"{settings.api_host}:{settings.api_port}"
        need_token_file(settings.api_token_file, "operator")
        told = exposure("The API", settings.api_host, "VISAVIS_API_", insecure=insecure, tls=bool(tls))
        if told:
            log.warning("api_exposed", reason=told)
        guard = Guard(
            Tokens(settings.api_token_file, API_SCOPES),
            API_SCOPES,
            HELP,
            insecure=insecure,
            certificates=bool(tls.client_ca),
        )
        app = create_app(
            services,
            metadata.version("visavis"),
            guard,
            hosts=settings.api_hosts,
            origins=settings.api_origins,
            probes=not settings.probe_port,
        )
        self._faces: list[tuple[HttpServer, socket.socket]] = []
        self._tasks: list[asyncio.Task[None]] = []
        try:
            self._listen(
                app,
                tls,
                "the API",
                settings.api_host,
                settings.api_port,
                "VISAVIS_API_PORT",
                sharing(services.web.tcp.accept) if services.web is not None else HttpProtocol,
                settings.api_proxies,
            )
            if settings.probe_port:
                host, port = settings.probe_host, settings.probe_port
                self._listen(create_probes(services), Tls(), "probes", host, port, "VISAVIS_PROBE_PORT")
        except OSError:
            self._let_go()
            raise

    async def serve(self) -> None:
        """Answer until closed; returns earlier only where a port has failed."""
        self._tasks = [asyncio.create_task(server.serve([sock])) for server, sock in self._faces]
        await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)

    async def close(self) -> None:
        """End every answer and let go of the ports."""
        for server, _ in self._faces:
            server.should_exit = True
        for task in self._tasks:
            with contextlib.suppress(SystemExit):
                await task
        self._let_go()

    def _listen(
        self,
        app: FastAPI,
        tls: Tls,
        what: str,
        host: str,
        port: int,
        setting: str,
        kind: type[HttpProtocol] = HttpProtocol,
        proxies: Sequence[str] = (),
    ) -> None:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
            proxy_headers=bool(proxies),  # of nobody else, the loopback included
            forwarded_allow_ips=list(proxies),
        )
        if tls:
            config.ssl_context_factory = lambda *_: tls.context()
        server = HttpServer(config, CONNECTIONS, kind=kind)
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._faces.append((server, socket.create_server((host, port), family=family)))
        except OSError as error:
            raise OSError(
                f"{what} cannot listen on {host}:{port} ({os.strerror(error.errno or 0)}): "
                f"choose another {setting}"
            ) from None

    def _let_go(self) -> None:
        for _, sock in self._faces:
            sock.close()
