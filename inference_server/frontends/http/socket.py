"""``WS /v1/converse``: one avatar in one conversation, with the semantics of the contract's ``Converse``."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketDisconnect

from inference_server.core import Core
from inference_server.errors import RequestError, invalid
from inference_server.frontends.access import client_name
from inference_server.frontends.http import wire as http_wire
from inference_server.streams.responses import FrameReady
from inference_server.streams.stream import Stream
from visavis.client.http_wire import CLOSE_CODES

OPEN_S = 10.0
FLUSH_S = 2.0  # what a stream that ends may take to hand over what is in its outbox
FAILED = "The server failed at this request: see its log."


async def receive(websocket: WebSocket) -> str | bytes | None:
    """The next message; ``None`` at the end."""
    message = await websocket.receive()
    if message["type"] == "websocket.disconnect":
        return None
    data: str | bytes | None = message.get("text")
    return data if data is not None else message["bytes"]


async def refuse(websocket: WebSocket, error: RequestError, tell: bool = True) -> None:
    """End the socket with its kind's close code and one sentence; nothing where the client is gone."""
    with contextlib.suppress(WebSocketDisconnect, RuntimeError, TimeoutError):
        async with asyncio.timeout(FLUSH_S):
            if tell:
                await websocket.send_text(http_wire.error(error))
            await websocket.close(CLOSE_CODES[error.kind], http_wire.reason(error.sentence))


async def converse(core: Core, websocket: WebSocket) -> None:
    """Serve one socket to its end."""
    await websocket.accept()
    try:
        await _converse(core, websocket)
    except RequestError as error:
        core.log.info("request_failed", route="/v1/converse", kind=error.kind, reason=error.sentence)
        await refuse(websocket, error)
    except WebSocketDisconnect:
        return
    except Exception:
        core.log.exception("internal_error", route="/v1/converse")
        await refuse(websocket, RequestError("internal", FAILED))


def client_of(connection: HTTPConnection) -> str:
    """Who asks."""
    grant = connection.scope.get("state", {}).get("grant")
    return client_name(grant, connection.client.host if connection.client else "")


async def _converse(core: Core, websocket: WebSocket) -> None:
    try:
        async with asyncio.timeout(OPEN_S):
            first = await receive(websocket)
    except TimeoutError:
        raise RequestError(
            "deadline_exceeded", f"No open came within {OPEN_S:g} s: send it first, at once."
        ) from None
    if first is None:
        return
    request = http_wire.open_request(first)
    has_playhead = http_wire.has_playhead(str(first))
    stream = await core.open(request, client_of(websocket))
    tasks: list[asyncio.Task[Any]] = []
    try:
        await websocket.send_text(http_wire.opened(core, stream))
        writer = asyncio.create_task(_write(stream, websocket, has_playhead))
        reader = asyncio.create_task(_read(stream, websocket))
        ended = asyncio.create_task(stream.ended.wait())
        tasks = [writer, reader, ended]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if stream.ended.is_set():
            await asyncio.wait([writer], timeout=FLUSH_S)  # a client that reads nothing stops nobody
    finally:
        for task in tasks:
            task.cancel()
        stream.close()
        done = await asyncio.gather(*tasks, return_exceptions=True)
    if stream.error is not None:
        raise stream.error
    for outcome in done:
        if isinstance(outcome, Exception):
            raise outcome


async def _read(stream: Stream, websocket: WebSocket) -> None:
    """Always reading, whatever is being sent; returns when the client has gone."""
    try:
        while (data := await receive(websocket)) is not None:
            http_wire.apply(stream, data)
    except RequestError as error:
        stream.log.warning("request_refused", reason=error.sentence)
        stream.end(error)
        await asyncio.Event().wait()
    except (KeyError, ValueError, TypeError):
        stream.log.exception("internal_error")
        stream.end(invalid(FAILED))
        await asyncio.Event().wait()


async def _write(stream: Stream, websocket: WebSocket, has_playhead: bool) -> None:
    while (said := await stream.outbox.get()) is not None:
        data = http_wire.response(stream, said)
        if isinstance(data, str):
            await websocket.send_text(data)
        else:
            await websocket.send_bytes(data)
        if not has_playhead and isinstance(said, FrameReady):
            stream.unpaced(said)
