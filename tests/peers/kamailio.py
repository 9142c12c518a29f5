"""Kamailio with the configuration that is shipped, before orchestrators of a test's own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from testing.ports import free_port
from tests.peers.peers import require
from tests.support.house import House

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "kamailio"


def command(listen: str, destinations: Path) -> list[str]:
    """What starts it; skips the test where it is not installed."""
    given = ["-A", f"LISTEN_ON={listen}", "-A", f'DESTINATIONS="{destinations}"']
    given += ["-A", f'ADDRESSES="{FOLDER / "address.list"}"']
    return [require("kamailio", "kamailio"), "-f", str(FOLDER / "kamailio.cfg"), *given]


@contextlib.asynccontextmanager
async def proxy(folder: Path, houses: Sequence[House]) -> AsyncIterator[str]:
    """Kamailio in front of these; yields what phones dial."""
    port = free_port()
    destinations = folder / "dispatcher.list"
    destinations.write_text("".join(f"1 sip:127.0.0.1:{house.sip_port} 0 0\n" for house in houses))
    start = [
        *command(f"udp:127.0.0.1:{port}", destinations),
        *("-DD", "-E", "-m", "32", "-M", "4", "-Y", str(folder), "-P", str(folder / "pid")),
    ]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*start, stderr=log, stdout=log, start_new_session=True)
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
