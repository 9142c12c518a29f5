"""rtpengine in user space: a relay of media that a proxy puts into the path of calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from testing.ports import free_port, free_ports
from tests.peers.peers import require


@asynccontextmanager
async def rtpengine(folder: Path, address: str) -> AsyncIterator[int]:
    """The UDP port of its control protocol on the loopback; media go through ``address``."""
    program = require("rtpengine", "rtpengine-daemon")
    control, low = free_port(), free_ports(100)
    command = [
        program, "--foreground", "--log-stderr", "--log-level=6", "--config-file=none", "--table=-1",
        f"--interface={address}", f"--listen-ng=127.0.0.1:{control}", f"--port-min={low}",
        f"--port-max={low + 99}", "--num-threads=2", "--delete-delay=0",
    ]  # fmt: skip
    path = folder / "rtpengine.log"
    with path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        async with asyncio.timeout(20):
            while b"Startup complete" not in path.read_bytes():
                assert process.returncode is None, path.read_text(errors="replace")[-2000:]
                await asyncio.sleep(0.05)
        yield control
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
