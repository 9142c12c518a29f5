"""A service of others on the loopback that follows a script: JSON lines of direction, delay and frame.

``{"direction": "in", "frame": ...}`` waits for such a message, those before it that are none are passed over;
``{"direction": "out", "delay": 0.2, "frame": ...}`` waits so long and sends. A frame is an object (sent and read as
JSON text; one that comes need only have these fields), a text as it is, or one of these:

``{"$binary": bytes}``: sound; one that comes has that many bytes at least, one that goes is a tone.
``{"$status": 429}``: the HTTP status; it answers a request, or refuses a WebSocket.
``{"$close": 1011}``: the end of the connection, ``{"$abort": true}`` without a word.

A connection follows one script; the last script is followed again and again.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from websockets.asyncio.server import Request, Response, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed

from tests.support.http_fake import served

Line = dict[str, Any]
FOLDER = Path(__file__).with_name("scripts")


def script(name: str) -> list[Line]:
    """The lines of a file of ``scripts``."""
    text = (FOLDER / f"{name}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines() if line.strip() and not line.startswith("//")]


def tone(size: int, rate: int = 16_000) -> bytes:
    """So many bytes of 16-bit PCM at 440 Hz."""
    at = np.arange(size // 2) / rate
    return (8000 * np.sin(2 * np.pi * 440 * at)).astype("<i2").tobytes() + bytes(size % 2)


@dataclass
class Service:
    """``url`` is its root over WebSockets, ``http`` over HTTP; ``came`` is what clients sent, sounds joined, and
    ``paths`` and ``headers`` what they asked for."""

    scripts: list[Sequence[Line]]
    url: str = ""
    http: str = ""
    came: list[Any] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    ended: int = 0
    """Connections that were gone before their script was over."""

    connections: set[ServerConnection] = field(default_factory=set)

    def drop(self) -> None:
        """Every connection is gone now, without a word."""
        for connection in self.connections:
            connection.transport.abort()

    def next(self) -> list[Line]:
        """The script of the next connection or request."""
        return list(self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0])

    def took(self, message: str | bytes) -> Any:
        """A message that came."""
        value: Any
        if isinstance(message, bytes):
            if self.came and isinstance(self.came[-1], bytes):
                self.came[-1] += message
            else:
                self.came.append(message)
            return message
        try:
            value = json.loads(message)
        except ValueError:
            value = message
        self.came.append(value)
        return value


def _fits(message: Any, frame: Any) -> bool:
    if isinstance(frame, dict) and "$binary" in frame:
        return isinstance(message, bytes) and len(message) >= frame["$binary"]
    if isinstance(frame, dict) and isinstance(message, dict):
        return all(message.get(name) == value for name, value in frame.items())
    return bool(message == frame)


def _text(frame: Any) -> str | bytes:
    if isinstance(frame, dict) and "$binary" in frame:
        return tone(frame["$binary"])
    if isinstance(frame, str):
        return frame
    if isinstance(frame.get("audio"), int):  # so many bytes of sound, in base64
        frame = frame | {"audio": base64.b64encode(tone(frame["audio"])).decode()}
    return json.dumps(frame)


@contextlib.asynccontextmanager
async def websocket_service(*scripts: Sequence[Line]) -> AsyncIterator[Service]:
    """A running one."""
    service = Service(list(scripts))
    refused: dict[str, Any] = {}

    async def process(connection: ServerConnection, request: Request) -> Response | None:
        lines = service.next()
        service.paths.append(request.path)
        service.headers.append({name.lower(): value for name, value in request.headers.raw_items()})
        first = lines[0]["frame"] if lines else {}
        if isinstance(first, dict) and "$status" in first:
            await asyncio.sleep(lines[0].get("delay", 0))
            return Response(first["$status"], "No", Headers({"Content-Length": "0"}), b"")
        refused[str(connection.id)] = lines
        return None

    async def talk(connection: ServerConnection) -> None:
        lines = refused.pop(str(connection.id))
        service.connections.add(connection)
        try:
            for line in lines:
                await _follow(service, connection, line)
            async for message in connection:  # until the client ends it
                service.took(message)
        except ConnectionClosed:
            service.ended += 1
        finally:
            service.connections.discard(connection)

    async with serve(talk, "127.0.0.1", 0, process_request=process) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        service.url, service.http = f"ws://127.0.0.1:{port}/v1", f"http://127.0.0.1:{port}/v1"
        yield service


async def _follow(service: Service, connection: ServerConnection, line: Line) -> None:
    frame = line["frame"]
    if line["direction"] == "in":
        sound = 0
        while True:
            message = await connection.recv()
            value = service.took(message)
            sound += len(message) if isinstance(message, bytes) else 0
            if _fits(value, frame) or ("$binary" in frame and sound >= frame["$binary"]):
                return
    await asyncio.sleep(line.get("delay", 0))
    if isinstance(frame, dict) and "$close" in frame:
        await connection.close(frame["$close"])
    elif isinstance(frame, dict) and "$abort" in frame:
        connection.transport.abort()
    else:
        await connection.send(_text(frame))


@contextlib.asynccontextmanager
async def http_service(*scripts: Sequence[Line]) -> AsyncIterator[Service]:
    """A running one; each request follows a script of "out" lines: a status, then its body."""
    service = Service(list(scripts))

    async def request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {
                    name.lower(): value
                    for name, _, value in (each.partition(": ") for each in head[1:] if each)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                service.paths.append(head[0].split()[1])
                service.headers.append(headers)
                json_ = headers.get("content-type", "").startswith("application/json")
                service.took(body.decode() if json_ else body)
                if not await _respond(service, writer):
                    return

    async with served(request) as service.http:
        yield service


async def _respond(service: Service, writer: asyncio.StreamWriter) -> bool:
    """Follow a script; False where it ends the connection."""
    lines = service.next()
    head = lines.pop(0) if "$status" in lines[0]["frame"] else {"frame": {"$status": 200}}
    await asyncio.sleep(head.get("delay", 0))
    kind = head["frame"].get("type", "application/json")
    writer.write(
        f"HTTP/1.1 {head['frame']['$status']} X\r\ncontent-type: {kind}\r\n"
        "transfer-encoding: chunked\r\n\r\n".encode()
    )
    for line in lines:
        await asyncio.sleep(line.get("delay", 0))
        if isinstance(line["frame"], dict) and "$abort" in line["frame"]:
            writer.transport.abort()
            return False
        data = _text(line["frame"])
        data = data.encode() if isinstance(data, str) else data
        try:
            writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
            await writer.drain()
        except ConnectionError:
            service.ended += 1
            raise
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True
