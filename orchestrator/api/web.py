"""Calls from browsers: SIP over WebSocket (RFC 7118)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect

from orchestrator.api.dependencies import Services, ServicesDep
from orchestrator.api.schemas import WebView
from orchestrator.gateways.web import PATH, WebConnection
from visavis.service.routes import needs

SUBPROTOCOL = "sip"
WRONG_SUBPROTOCOL, TRY_AGAIN = 1002, 1013

router = APIRouter(tags=["web"])


@router.get(
    "/v1/web", summary="What a browser needs to call: STUN and TURN servers, with credentials for an hour"
)
@needs("calls:join")
async def web(services: ServicesDep) -> WebView:
    servers = services.web.ice_servers(time.time()) if services.web is not None else []
    return WebView(path=PATH, ice_servers=servers)


@router.websocket(PATH)
@needs("calls:join")
async def sip(socket: WebSocket) -> None:
    services: Services = socket.app.state.services
    if SUBPROTOCOL not in socket.scope.get("subprotocols", ()):
        await socket.close(WRONG_SUBPROTOCOL, "offer the subprotocol sip (RFC 7118)")
        return
    local, remote = socket.scope.get("server") or ("", 0), socket.scope.get("client") or ("", 0)
    host = socket.headers.get("host", "")
    ends = (local[0], local[1] or 0), (remote[0], remote[1])
    connection = await services.web.connect(*ends, host) if services.web is not None else None
    if connection is None:
        await socket.close(TRY_AGAIN, "too many browsers are connected, or none are served now")
        return
    try:
        await socket.accept(SUBPROTOCOL)
        sender = asyncio.create_task(_send(connection, socket))
        try:
            await _receive(connection, socket)
        finally:
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, WebSocketDisconnect, RuntimeError):
                await sender
    finally:
        connection.gone()


async def _receive(connection: WebConnection, socket: WebSocket) -> None:
    while True:
        message: dict[str, Any] = dict(await socket.receive())
        if message["type"] == "websocket.disconnect":
            return
        text, data = message.get("text"), message.get("bytes")
        connection.received(text.encode() if text is not None else data or b"")


async def _send(connection: WebConnection, socket: WebSocket) -> None:
    while (data := await connection.outgoing.get()) is not None:
        await socket.send_text(data.decode("utf-8", "replace"))
    await socket.close()
