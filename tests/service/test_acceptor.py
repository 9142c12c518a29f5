"""Connections to us: how many there may be, which one goes for another, and what a silent one costs."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from visavis.service import acceptor
from visavis.service.acceptor import SPARE, Acceptor, ConnectionLimits, Guest

Peer = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Echo(asyncio.Protocol):
    """Says what it hears; a guest that is too many is told so."""

    def __init__(self, guest: Guest) -> None:
        self.guest = guest

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self.guest.excess:
            transport.write(b"full")
            transport.close()

    def data_received(self, data: bytes) -> None:
        self.guest.spoke = True
        self.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.guest.gone()


@contextlib.asynccontextmanager
async def listening(limits: ConnectionLimits, **options: object) -> AsyncIterator[int]:
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = Acceptor(listener, Echo, limits, **options)  # type: ignore[arg-type]
    try:
        yield port
    finally:
        server.close()
        await server.wait_closed()


async def heard(reader: asyncio.StreamReader) -> bytes:
    with contextlib.suppress(ConnectionResetError):
        return await asyncio.wait_for(reader.read(100), 5)
    return b""


@contextlib.asynccontextmanager
async def caller(port: int, source: str = "127.0.0.1") -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def say(peer: Peer) -> bytes:
    peer[1].write(b"x")
    return await heard(peer[0])


async def test_the_longest_silent_connection_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "YOUNG_S", 0.0)
    limits = ConnectionLimits(3)
    async with (
        listening(limits) as port,
        caller(port) as first,
        caller(port) as second,
        caller(port) as third,
    ):
        assert await say(first) == b"x" and await say(third) == b"x"
        async with caller(port) as fourth:
            assert await say(fourth) == b"x"
            assert await heard(second[0]) == b""  # it had said nothing
            async with caller(port) as fifth:
                assert await heard(fifth[0]) == b"full"
            assert await say(first) == b"x"
    async with asyncio.timeout(5):
        while len(limits):
            await asyncio.sleep(0)


async def test_one_address_has_its_share_and_strangers_nothing() -> None:
    limits = ConnectionLimits(100, per_host=2)
    async with listening(limits, admits=lambda host: host != "127.0.0.3") as port:
        async with caller(port) as first, caller(port) as second, caller(port, "127.0.0.2") as other:
            assert [await say(peer) for peer in (first, second, other)] == [b"x"] * 3
            async with caller(port) as third, caller(port, "127.0.0.3") as stranger:
                assert await heard(third[0]) == await heard(stranger[0]) == b""
        async with asyncio.timeout(5):
            while len(limits):
                await asyncio.sleep(0)
        async with caller(port) as again:
            assert await say(again) == b"x"


def test_far_too_many_are_not_even_told() -> None:
    limits = ConnectionLimits(2)
    spare = min(SPARE, resource.getrlimit(resource.RLIMIT_NOFILE)[0] * 3 // 4 - 2)
    guests = [limits.admit("127.0.0.1", 0.0) for _ in range(2)]
    for guest in guests:
        assert guest is not None and not guest.excess
        guest.spoke = True
    more = [limits.admit("127.0.0.1", 0.0) for _ in range(spare + 5)]
    assert [guest is None for guest in more] == [False] * spare + [True] * 5
    assert all(guest.excess for guest in more if guest)


def test_a_connection_has_a_moment_to_say_something(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "YOUNG_S", 5.0)
    limits = ConnectionLimits(2)
    first, second = (limits.admit("127.0.0.1", float(at)) for at in (10, 11))
    assert first and second
    gone: list[Guest] = []
    first.abort, second.abort = lambda: gone.append(first), lambda: gone.append(second)
    young = 10 + acceptor.YOUNG_S
    for now, excess, left in ((young - 0.1, True, []), (young, False, [first]), (young + 0.9, True, [first])):
        guest = limits.admit("127.0.0.1", now)
        assert guest is not None and (guest.excess, gone) == (excess, left)
        guest.spoke = True
        if excess:
            guest.gone()


def test_half_of_the_descriptors_are_for_other_things() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert ConnectionLimits(10**9).most == soft // 2


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_without_descriptors_there_is_one_line_a_second_and_no_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    limits = ConnectionLimits(1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    callers = [socket.socket() for _ in range(60)]
    for each in callers:
        each.setblocking(False)
    async with listening(limits) as port:
        held = open_descriptors()
        resource.setrlimit(resource.RLIMIT_NOFILE, (held + 10, hard))
        try:
            for each in callers:
                with contextlib.suppress(BlockingIOError):
                    each.connect(("127.0.0.1", port))
            async with asyncio.timeout(5):
                while sum(_is_closed(each) for each in callers) < 45:
                    await asyncio.sleep(0.01)
            asked = callers[0]
            assert not _is_closed(asked)
            asked.send(b"x")
            assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(asked, 10), 5) == b"x"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for each in callers:
                each.close()
            async with asyncio.timeout(5):
                while len(limits):
                    await asyncio.sleep(0.01)
    lines = [record for record in caplog.records if record.msg == "out_of_descriptors"]
    assert 1 <= len(lines) <= 5


def _is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def test_a_handshake_that_is_not_spoken_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "HANDSHAKE_S", 0.05)
    limits = ConnectionLimits(10)
    async with listening(limits, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as port, caller(port) as silent:
        assert await heard(silent[0]) == b""
    assert len(limits) == 0


async def test_a_handshake_under_way_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceptor, "YOUNG_S", 0.0)
    limits = ConnectionLimits(1)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with listening(limits, tls=tls) as port, caller(port) as silent, caller(port):
        assert await heard(silent[0]) == b""
