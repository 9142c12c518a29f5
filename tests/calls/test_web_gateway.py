"""The way of browsers into calls: what they are offered, TCP where UDP is blocked, servers with credentials."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import os
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.config import Settings
from orchestrator.gateways.ice_servers import LIFETIME_S, ice_servers
from orchestrator.gateways.ice_tcp import IceTcp
from orchestrator.gateways.web import MOST_UNSENT, WebGateway, candidates, named_address
from orchestrator.rtp import stun
from orchestrator.rtp.bundle import Fingerprint
from orchestrator.rtp.framing import LONGEST, Deframer, FramingError, framed
from orchestrator.sip.message.parsing import MAX_FRAME
from tests.support.control import Control

LOCAL = ("127.0.0.1", 8080)


@pytest.mark.parametrize(
    ("host", "local", "address"),
    [
        ("127.0.0.1:9000", LOCAL, ("127.0.0.1", 9000)),
        ("localhost:8080", LOCAL, ("127.0.0.1", 8080)),
        ("localhost:8080", ("::1", 8080), ("::1", 8080)),
        ("[2001:db8::1]:8443", LOCAL, ("2001:db8::1", 8443)),
        ("192.0.2.7", LOCAL, ("192.0.2.7", 80)),
        ("", LOCAL, ("", 80)),
        ("no<such>name:1", LOCAL, ("", 1)),
        ("192.0.2.7:99999", LOCAL, ("192.0.2.7", 80)),
    ],
)
async def test_the_address_that_a_browser_believes_to_have_reached(
    host: str, local: tuple[str, int], address: tuple[str, int]
) -> None:
    assert await named_address(host, local) == address


def test_turn_servers_get_credentials_that_expire() -> None:
    urls = ["stun:stun.example.com", "turn:turn.example.com:3478?transport=tcp"]
    stun_server, turn_server = ice_servers(urls, "north", 1_000_000.7, "visavis")
    assert stun_server == {"urls": ["stun:stun.example.com"]}
    assert turn_server["username"] == f"{1_000_000 + LIFETIME_S}:visavis"
    wanted = hmac.digest(b"north", turn_server["username"].encode(), hashlib.sha1)
    assert base64.b64decode(turn_server["credential"]) == wanted
    assert ice_servers([], "", 0.0, "x") == []


def test_a_turn_server_without_its_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="web_turn_secret"):
        Settings(web_ice_servers=["turn:turn.example.com"])
    with pytest.raises(ValueError, match="no STUN or TURN server"):
        Settings(web_ice_servers=["https://turn.example.com"])


def test_packets_in_a_stream_wherever_it_is_cut() -> None:
    packets = [b"a", b"bc" * 600, b"d" * 20]
    stream = b"".join(map(framed, packets)) + framed(b"")
    for size in (1, 2, 3, 700, len(stream)):
        deframer, found = Deframer(), list[bytes]()
        for at in range(0, len(stream), size):
            found += deframer.feed(stream[at : at + size])
        assert found == packets
    with pytest.raises(FramingError):
        Deframer().feed((LONGEST + 1).to_bytes(2))


class Echo(asyncio.DatagramProtocol):
    """A media port that sends back what comes, twice."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        for _ in range(2):
            self.transport.sendto(data, addr)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def relay() -> AsyncIterator[tuple[IceTcp, asyncio.StreamReader, asyncio.StreamWriter]]:
    loop = asyncio.get_running_loop()
    media, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    port = media.get_extra_info("sockname")[1]
    tcp = IceTcp("127.0.0.1", {"ours": port}.get)
    server = await loop.create_server(tcp.accept, "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    try:
        yield tcp, reader, writer
    finally:
        writer.close()
        tcp.close()
        server.close()
        media.close()
        await asyncio.sleep(0.05)


def check(ufrag: str) -> bytes:
    attributes = [(stun.USERNAME, f"{ufrag}:theirs".encode())]
    return stun.build(stun.BINDING_REQUEST, os.urandom(12), attributes, b"x" * 24)


async def test_packets_of_a_connection_reach_the_call_that_its_first_check_names() -> None:
    async with relay() as (_, reader, writer):
        first = check("ours")
        writer.write(framed(first) + framed(b"\x80more"))
        got = Deframer()
        packets: list[bytes] = []
        async with asyncio.timeout(5):
            while len(packets) < 4:
                packets += got.feed(await reader.read(4096))
        assert sorted(packets) == sorted([first, first, b"\x80more", b"\x80more"])


@pytest.mark.parametrize(
    "first",
    [check("others"), b"\x80media", b"\x16dtls", b"\0" * 30],
    ids=["a check of others", "media", "dtls", "zeros"],
)
async def test_a_connection_that_begins_with_anything_else_is_closed(first: bytes) -> None:
    async with relay() as (_, reader, writer):
        writer.write(framed(first))
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionError):
                assert await reader.read(100) == b""


async def test_a_websocket_that_stops_reading_or_says_too_much_is_closed(tmp_path: Path) -> None:
    control = Control(tmp_path)
    fingerprint = Fingerprint("sha-256", ":".join(["AB"] * 32))
    gateway = WebGateway(Settings(data_dir=tmp_path), control.registry, fingerprint)
    assert await gateway.connect(LOCAL, ("192.0.2.1", 4000), "127.0.0.1:8080") is None  # not started
    await gateway.start()
    try:
        slow = await gateway.connect(LOCAL, ("192.0.2.1", 4000), "127.0.0.1:8080")
        assert slow is not None
        for _ in range(MOST_UNSENT + 1):
            slow.received(b"\r\n\r\n")
        assert slow.outgoing.get_nowait() is None
        long = await gateway.connect(LOCAL, ("192.0.2.1", 4001), "127.0.0.1:8080")
        assert long is not None
        long.received(b"x" * (MAX_FRAME + 1))
        assert long.outgoing.get_nowait() is None
        broken = await gateway.connect(LOCAL, ("192.0.2.1", 4002), "127.0.0.1:8080")
        assert broken is not None
        for data in (b"\xff\xfe", b"GET / HTTP/1.1\r\n\r\n", b"INVITE sip:a SIP/2.0\r\n\r\n"):
            broken.received(data)
        for one in (slow, long, broken):
            one.gone()
            one.gone()
    finally:
        await gateway.close()
        await control.close()


async def test_a_call_that_restarts_ice_again_and_again_keeps_no_more_than_two_names(tmp_path: Path) -> None:
    control = Control(tmp_path)
    fingerprint = Fingerprint("sha-256", ":".join(["AB"] * 32))
    gateway = WebGateway(Settings(data_dir=tmp_path), control.registry, fingerprint)
    try:
        calls: list[Any] = [SimpleNamespace(sip=SimpleNamespace(id=name)) for name in ("one", "other")]
        gateway._took_ufrag(calls[1], "theirs", 4)
        for number in range(50):
            gateway._took_ufrag(calls[0], f"u{number}", 2)
        assert [gateway.media_port(name) for name in ("u49", "u48", "u47", "u0", "theirs")] == [
            2,
            2,
            None,
            None,
            4,
        ]
        assert len(gateway._media) == 3
    finally:
        await control.close()


@pytest.mark.parametrize(
    ("bound", "address", "host", "udp"),
    [
        ("0.0.0.0", "192.0.2.1", "127.0.0.1", ["192.0.2.1", "127.0.0.1"]),
        ("0.0.0.0", "127.0.0.1", "127.0.0.1", ["127.0.0.1"]),
        ("0.0.0.0", "192.0.2.1", "::1", ["192.0.2.1"]),
        ("::", "2001:db8::1", "192.0.2.1", ["2001:db8::1", "192.0.2.1"]),
        ("192.0.2.9", "127.0.0.1", "127.0.0.1", ["192.0.2.9", "127.0.0.1"]),
        ("0.0.0.0", "192.0.2.1", "calls.example", ["192.0.2.1"]),
    ],
)
def test_candidates_are_where_the_browser_may_reach_us(
    bound: str, address: str, host: str, udp: list[str]
) -> None:
    lines = [line.split() for line in candidates(bound, address, (host, 8080), 4000)]
    assert [line[4] for line in lines if line[2] == "udp"] == udp
    assert [(line[4], line[5]) for line in lines if line[2] == "tcp"] == [(host, "8080")]
    assert len({line[0] for line in lines}) == len(lines)
    priorities = [int(line[3]) for line in lines]
    assert priorities == sorted(priorities, reverse=True)
