"""One port for the API and for media: which of them a connection is for, and that neither minds the other."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket

import pytest
import uvicorn

from orchestrator.api.shared_port import sharing
from orchestrator.gateways.ice_tcp import IceTcp
from orchestrator.rtp import stun
from orchestrator.rtp.framing import framed
from visavis.service.http_server import HttpServer


async def app(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"page"})


class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)  # type: ignore[attr-defined]


async def test_a_request_and_a_check_come_to_the_same_port() -> None:
    loop = asyncio.get_running_loop()
    media, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    tcp = IceTcp("127.0.0.1", {"ours": media.get_extra_info("sockname")[1]}.get)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = HttpServer(config, 100, kind=sharing(tcp.accept))
    serving = asyncio.create_task(server.serve([listening]))
    check = stun.build(stun.BINDING_REQUEST, os.urandom(12), [(stun.USERNAME, b"ours:theirs")], b"x" * 24)
    writers = []
    try:
        for first, answer in (
            (framed(check), framed(check)),
            (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", b"page"),
        ):
            reader, writer = await asyncio.open_connection(*listening.getsockname())
            writers.append(writer)
            for byte in (first[:1], first[1:]):  # also in pieces
                writer.write(byte)
                await asyncio.sleep(0.02)
            async with asyncio.timeout(5):
                got = b""
                while answer not in got:
                    got += await reader.read(4096)
    finally:
        for writer in writers:
            writer.close()
        tcp.close()
        media.close()
        server.should_exit = True
        with contextlib.suppress(SystemExit):
            await serving
        listening.close()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("first", [b"\0\x14" + bytes(20), b"\0\xff"])
async def test_what_is_neither_is_closed(first: bytes) -> None:
    tcp = IceTcp("127.0.0.1", dict[str, int]().get)
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1)
    server = HttpServer(config, 100, kind=sharing(tcp.accept))
    serving = asyncio.create_task(server.serve([listening]))
    reader, writer = await asyncio.open_connection(*listening.getsockname())
    try:
        writer.write(first + bytes(300))
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                while await reader.read(4096):
                    pass
    finally:
        writer.close()
        tcp.close()
        server.should_exit = True
        await serving
        listening.close()
        await asyncio.sleep(0.05)
