"""The browser page in a real browser: Chromium loads it, speaks, and its canvas shows what the server drew."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import itertools
import json
import os
import tempfile
import threading
from collections.abc import AsyncIterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from websockets.asyncio.client import ClientConnection, connect

from testing.card import CardReading, read_card
from testing.ports import free_port
from tests.peers.peers import require
from tests.support.house import picture, tone, wav_header
from tests.support.http import url
from tests.support.servers import ROOT, running_server

pytestmark = pytest.mark.process

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
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
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

    async def canvas(self) -> CardReading | None:
        """What the page shows of the test card."""
        data = await self.run("document.querySelector('canvas').toDataURL('image/png').split(',')[1]")
        image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
        return read_card(image[..., ::-1])


@contextlib.asynccontextmanager
async def chromium(page: str) -> AsyncIterator[Tab]:
    """A browser that shows ``page``."""
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="visavis-test-", ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(require("chromium", "chromium"), *FLAGS, f"--user-data-dir={profile}"),
            *(f"--remote-debugging-port={port}", page),
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
                        socket = next(t["webSocketDebuggerUrl"] for t in tabs if t["url"] == page)
            async with connect(socket, max_size=None, proxy=None) as ws:
                tab = Tab(ws)
                while not await tab.run(
                    "document.readyState === 'complete' && 'onclick' in (window.go || {})"
                ):
                    await asyncio.sleep(0.05)
                yield tab
        finally:
            process.terminate()
            await process.wait()


@contextlib.contextmanager
def examples() -> Any:
    """The folder of the page, over HTTP; its origin."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=ROOT / "examples"))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.slow
@pytest.mark.peer("chromium")
async def test_the_page_speaks_in_a_browser(tmp_path: Path) -> None:
    require("chromium", "chromium")
    image, speech = tmp_path / "face.png", tmp_path / "speech.wav"
    image.write_bytes(picture())
    speech.write_bytes(wav_header() + tone(6).tobytes())
    with examples() as origin:
        async with (
            running_server(slots=2, http_origins=origin) as server,
            chromium(f"{origin}/browser_client.html") as tab,
        ):
            await tab.choose("#image", image)
            await tab.choose("#speech", speech)
            await tab.run(f"document.querySelector('#url').value = '{url(server)}'")
            await tab.run("document.querySelector('#go').click()")
            mouths: list[CardReading] = []
            async with asyncio.timeout(60):
                while "frames" not in (
                    state := await tab.run("document.querySelector('#state').textContent")
                ):
                    card = await tab.canvas() if "speaking" in state else None
                    if card is not None and card.mouth is not None:
                        mouths.append(card)
                    await asyncio.sleep(0.05)
            shot = (await tab.call("Page.captureScreenshot", format="png"))["data"]
            (tmp_path / "page.png").write_bytes(base64.b64decode(shot))
    assert mouths and all(card.mouth and card.mouth.loop_index == card.loop_index for card in mouths)
