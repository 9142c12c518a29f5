"""The private server of a provider: it ends with its owner, however that ends."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

OWNER = """
import asyncio, sys, threading, time
from visavis.roomkit.local_server import LocalServer
local = LocalServer("mock", {}, cache_dir=sys.argv[1])
starter = threading.Thread(target=lambda: asyncio.run(local.start(30)))
starter.start()
starter.join()
print(local.pid, flush=True)
time.sleep(60)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.process
async def test_it_ends_with_an_owner_that_is_killed(tmp_path: Path) -> None:
    """And not with the thread that asked for it."""
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", OWNER, str(tmp_path)), stdout=asyncio.subprocess.PIPE
    )
    assert owner.stdout is not None
    async with asyncio.timeout(30):
        server = int(await owner.stdout.readline())
        await asyncio.sleep(0.2)
        assert alive(server)
        owner.kill()
        await owner.wait()
        try:
            while alive(server):
                await asyncio.sleep(0.05)
        except TimeoutError:
            os.kill(server, signal.SIGKILL)
            raise
