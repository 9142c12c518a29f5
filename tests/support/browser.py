"""A real browser for tests: Debian's Chromium, driven over the Chrome DevTools protocol."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from websockets.asyncio.client import ClientConnection, connect

from testing.ports import free_port
from tests.peers.peers import require

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)


class Tab:
    """One page, driven over the Chrome DevTools protocol."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The command's result."""
        number = next(self._numbers)
        await self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            answer = json.loads(await self._socket.recv())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])

    async def run(self, script: str) -> Any:
        """The value of an expression."""
        result = (await self.call("Runtime.evaluate", expression=script, awaitPromise=True))["result"]
        return result.get("value")

    async def choose(self, selector: str, file: Path) -> None:
        """Put a file into an input."""
        found = await self.call("Runtime.evaluate", expression=f"document.querySelector('{selector}')")
        await self.call("DOM.setFileInputFiles", objectId=found["result"]["objectId"], files=[str(file)])


@contextlib.asynccontextmanager
async def chromium(page: str, ready: str = "true", rules: str = "") -> AsyncIterator[Tab]:
    """A browser that shows ``page``, loaded and with ``ready`` true in it; ``rules`` say what names resolve to.

    No other name than those resolves, so that nothing leaves this machine.
    """
    resolve = ", ".join(filter(None, [rules, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"]))
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="visavis-test-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(require("chromium", "chromium"), *FLAGS, f"--user-data-dir={profile}"),
            *(f"--host-resolver-rules={resolve}", f"--remote-debugging-port={port}", page),
            env=os.environ | {"TMPDIR": profile},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            async with asyncio.timeout(60):
                socket = None
                while socket is None:
                    await asyncio.sleep(0.2)
                    with contextlib.suppress(httpx.HTTPError, StopIteration):
                        async with httpx.AsyncClient(trust_env=False) as client:
                            tabs = (await client.get(f"http://127.0.0.1:{port}/json")).json()
                        socket = next(
                            t["webSocketDebuggerUrl"]
                            for t in tabs
                            if t["url"].partition("#")[0] == page.partition("#")[0]
                        )
            async with connect(socket, max_size=None, proxy=None) as ws:
                tab = Tab(ws)
                while not await tab.run(f"document.readyState === 'complete' && ({ready})"):
                    await asyncio.sleep(0.05)
                yield tab
        finally:
            process.terminate()
            await process.wait()
