"""Two orchestrators behind Kamailio with the configuration that is shipped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bench.caller import Phone
from bench.ports import free_port
from tests.support.house import House, orchestrator
from tests.support.peers import require
from tests.support.servers import running_server

FOLDER = Path(__file__).parent.parent / "deploy" / "kamailio"

pytestmark = pytest.mark.peer


def command(listen: str, destinations: Path) -> list[str]:
    given = ["-A", f"LISTEN_ON={listen}", "-A", f'DESTINATIONS="{destinations}"']
    return [require("kamailio", "kamailio"), "-f", str(FOLDER / "kamailio.cfg"), *given]


def test_the_configuration_is_valid() -> None:
    done = subprocess.run(
        [*command("udp:127.0.0.1:5060", FOLDER / "dispatcher.list"), "-c"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "config file ok" in done.stderr.lower(), done.stderr


@contextlib.asynccontextmanager
async def proxy(folder: Path, houses: list[House]) -> AsyncIterator[str]:
    """Kamailio in front of these; yields what phones dial."""
    port = free_port()
    destinations = folder / "dispatcher.list"
    destinations.write_text("".join(f"1 sip:127.0.0.1:{house.sip_port} 0 0\n" for house in houses))
    log = (folder / "log").open("wb")
    process = await asyncio.create_subprocess_exec(
        *command(f"udp:127.0.0.1:{port}", destinations),
        *("-DD", "-E", "-m", "32", "-M", "4", "-Y", str(folder), "-P", str(folder / "pid")),
        stderr=log,
        stdout=log,
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(30):
            while not _answers(port):
                assert process.returncode is None, (folder / "log").read_text()
                await asyncio.sleep(0.2)
        yield f"sip:demo@127.0.0.1:{port}"
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 30)
        log.close()


def _answers(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        probe.settimeout(0.5)
        own = probe.getsockname()[1]
        probe.sendto(
            (
                f"OPTIONS sip:127.0.0.1:{port} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP 127.0.0.1:{own};branch=z9hG4bK{own};rport\r\n"
                f"From: <sip:probe@127.0.0.1>;tag=1\r\nTo: <sip:127.0.0.1>\r\nCall-ID: {own}\r\n"
                "CSeq: 1 OPTIONS\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"
            ).encode(),
            ("127.0.0.1", port),
        )
        try:
            return probe.recv(4096).startswith(b"SIP/2.0 200")
        except OSError:
            return False


async def calls(house: House) -> int:
    found = (await house.api.get("/v1/calls")).json()
    return sum(call["ended_at"] is None for call in found)


async def test_calls_spread_and_a_draining_orchestrator_gets_no_more(tmp_path: Path) -> None:
    async with (
        running_server() as server,
        orchestrator([server.address], drain_s=120) as first,
        orchestrator([server.address], drain_s=120) as second,
        proxy(tmp_path, [first, second]) as uri,
        contextlib.AsyncExitStack() as phones,
    ):
        early = [await phones.enter_async_context(Phone(uri, video=False)) for _ in range(4)]
        assert (await calls(first), await calls(second)) == (2, 2)
        first.process.send_signal(signal.SIGTERM)
        # at once, before the proxy can know by OPTIONS: no call fails
        late = [await phones.enter_async_context(Phone(uri, video=False)) for _ in range(4)]
        assert (await calls(first), await calls(second)) == (2, 6)
        await asyncio.sleep(0.5)
        assert not any(phone.hung_up.is_set() for phone in (*early, *late))
        await phones.aclose()
        assert await asyncio.wait_for(first.process.wait(), 30) == 0
        async with Phone(uri, video=False):
            assert await calls(second) == 1
        async with orchestrator([server.address], sip_port=first.sip_port) as again, asyncio.timeout(60):
            while True:  # until Kamailio has asked it again
                async with Phone(uri, video=False):
                    if await calls(again) == 1:
                        break
    for phone in (*early, *late):
        assert phone.recording.audio.lost == 0
