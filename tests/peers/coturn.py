"""coturn with passwords by a secret, as docs/browser.md has it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

from testing.ports import free_port, free_ports
from tests.peers.peers import require


@contextlib.asynccontextmanager
async def turn_server(folder: Path, secret: str, host: str = "127.0.0.1") -> AsyncIterator[int]:
    """Its port, for UDP and TCP; it relays to the loopback as well."""
    port, low = free_port(), free_ports(20)
    process = await asyncio.create_subprocess_exec(
        *(
            require("turnserver", "coturn"),
            "-n",
            "--no-cli",
            "--no-tls",
            "--no-dtls",
            "--allow-loopback-peers",
        ),
        *("--use-auth-secret", f"--static-auth-secret={secret}", "--realm=test", "--log-file=stdout"),
        *(f"--listening-ip={host}", f"--relay-ip={host}", f"--listening-port={port}"),
        *(f"--min-port={low}", f"--max-port={low + 19}", f"--userdb={folder / 'turndb'}"),
        f"--pidfile={folder / 'turn.pid'}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(30):
            while not _listens(host, port):
                assert process.returncode is None, "coturn ended"
                await asyncio.sleep(0.1)
        yield port
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((host, port)) == 0
