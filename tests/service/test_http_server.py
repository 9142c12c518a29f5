"""HTTP as both services serve it: nobody holds a connection by saying nothing, or a request by saying little."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect

from visavis.service import http_server
from visavis.service.http_server import HttpServer

HEAD = b"GET /small HTTP/1.1\r\nHost: here\r\n\r\n"
POST = b"POST /body HTTP/1.1\r\nHost: here\r\nContent-Length: 100000\r\n\r\n"


@contextlib.asynccontextmanager
async def serving(most: int = 10) -> AsyncIterator[int]:
    app = FastAPI()

    @app.get("/small")
    async def small() -> str:
        return "small"

    @app.post("/body")
    async def body(request: Request) -> int:
        with contextlib.suppress(ClientDisconnect):
            return len(await request.body())
        return 0

    @app.post("/patient")
    async def patient(request: Request) -> int:
        await asyncio.sleep(0.9)  # reads nothing meanwhile
        return len(await request.body())

    listener = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"), most)
    task = asyncio.create_task(server.serve([listener]))
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        await task
        listener.close()


@contextlib.asynccontextmanager
async def peer(
    port: int, first: bytes = b""
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(first)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ended(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionError):
        return await asyncio.wait_for(reader.read(), 5)
    return b""


async def test_a_silent_connection_and_half_a_head_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "SILENT_S", 0.1)
    async with (
        serving() as port,
        peer(port) as silent,
        peer(port, HEAD[:20]) as half,
        peer(port, HEAD) as whole,
    ):
        assert await ended(silent[0]) == await ended(half[0]) == b""
        assert b"small" in await ended(whole[0])  # and then said nothing more


async def test_a_body_that_hardly_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "BODY_S", 0.1)
    async with serving() as port, peer(port, POST) as slow, peer(port, POST) as steady:

        async def drip() -> None:
            for _ in range(200):
                slow[1].write(b"x")
                await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        for _ in range(100):
            steady[1].write(b"x" * 1000)
            await asyncio.sleep(0.004)
        assert b" 200 " in await steady[0].readline()
        assert await ended(slow[0]) == b""
        dripping.cancel()


async def test_a_body_that_nobody_reads_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "BODY_S", 0.3)
    async with serving() as port, peer(port, POST.replace(b"/body", b"/patient")) as (reader, writer):
        writer.write(b"x" * 99_000)  # beyond what is read ahead
        await asyncio.sleep(0.75)
        writer.write(b"x" * 1000)
        assert b" 200 " in await asyncio.wait_for(reader.readline(), 5)


async def test_who_is_too_many_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(1) as port, peer(port, HEAD) as first:
        assert b" 200 " in await first[0].readline()
        async with peer(port) as second:
            told = await ended(second[0])
        assert b" 503 " in told and json.loads(told.partition(b"\r\n\r\n")[2]) == {
            "type": "about:blank",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "All 1 connections of this server are open: try again soon or elsewhere.",
        }
