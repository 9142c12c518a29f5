"""The relay that answers the names of a Docker network outside it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from deploy.names import Questions, check, relay, wrong_settings


class _Resolver(asyncio.DatagramProtocol):
    """Answers every question with as many addresses as it has."""

    addresses = 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        header = data[:2] + b"\x81\x80\0\1" + self.addresses.to_bytes(2, "big") + b"\0\0\0\0"
        self._transport.sendto(header + data[12:], addr)  # type: ignore[attr-defined]


@pytest.fixture
async def names() -> AsyncIterator[tuple[tuple[str, int], _Resolver]]:
    """The relay's address, and the resolver behind it."""
    loop = asyncio.get_running_loop()
    behind, resolver = await loop.create_datagram_endpoint(_Resolver, local_addr=("127.0.0.1", 0))
    at = behind.get_extra_info("sockname")
    front, _ = await loop.create_datagram_endpoint(lambda: Questions(at), local_addr=("127.0.0.1", 0))
    yield front.get_extra_info("sockname"), resolver
    front.close()
    behind.close()


async def test_a_name_is_answered(names: tuple[tuple[str, int], _Resolver]) -> None:
    address, _ = names
    assert (
        await asyncio.gather(*(asyncio.to_thread(check, address, "inference") for _ in range(5))) == [0] * 5
    )


async def test_a_name_without_address_is_told(
    names: tuple[tuple[str, int], _Resolver], capsys: pytest.CaptureFixture[str]
) -> None:
    address, resolver = names
    resolver.addresses = 0
    assert await asyncio.to_thread(check, address, "nobody") == 1
    assert capsys.readouterr().out == "the name nobody has no address\n"


async def test_a_silent_resolver_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("deploy.names.TIMEOUT_S", 0.1)
    loop = asyncio.get_running_loop()
    hole, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0))
    assert await asyncio.to_thread(check, hole.get_extra_info("sockname"), "inference") == 1
    assert "no answer" in capsys.readouterr().out
    hole.close()


async def test_long_answers_go_over_tcp() -> None:
    async def resolver(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write((await reader.readexactly(4)) * 1000)
        await writer.drain()
        writer.close()

    behind = await asyncio.start_server(resolver, "127.0.0.1", 0)
    at = behind.sockets[0].getsockname()
    front = await asyncio.start_server(lambda r, w: relay(r, w, at), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname()[:2])
    writer.write(b"ask!")
    writer.write_eof()
    assert await asyncio.wait_for(reader.read(), 10) == b"ask!" * 1000
    writer.close()
    await writer.wait_closed()
    front.close()
    behind.close()


def test_the_check_names_what_is_no_setting(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = str(Path(__file__).parents[2] / "deploy" / "compose.settings.yml")
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in [name for name in os.environ if name.startswith("VISAVIS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("VISAVIS_MAX_CALLS", "3")
    assert wrong_settings(settings) == 0 and capsys.readouterr().out == ""
    monkeypatch.setenv("VISAVIS_SIP_PROT", "5060")
    assert wrong_settings(settings) == 1
    assert capsys.readouterr().out == "VISAVIS_SIP_PROT is not a setting; is VISAVIS_SIP_PORT meant?\n"
