"""Debian's Chromium, driven over the Chrome DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import httpx
import numpy as np
from websockets.asyncio.client import ClientConnection, connect

from testing.card import CardReading, read_card
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
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)
LOADED = "location.href !== 'about:blank' && document.readyState === 'complete'"
FAKE_DEVICES = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
"""A microphone that beeps and a camera that shows a ball; nobody is asked for either."""


class Tab:
    """One page, driven over the Chrome DevTools protocol."""

    def __init__(self, socket: ClientConnection, browser: Browser) -> None:
        self.browser = browser
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
        answer = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True, userGesture=True
        )
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, script: str, within_s: float = 20.0) -> Any:
        """The value of an expression once it is true."""
        value: Any = None
        try:
            async with asyncio.timeout(within_s):
                while not (value := await self.run(script)):
                    await asyncio.sleep(0.03)
        except TimeoutError:
            raise AssertionError(f"not within {within_s} s: {script}") from None
        return value

    async def picture(self, path: Path) -> None:
        """What the tab shows, as PNG."""
        data = (await self.call("Page.captureScreenshot", format="png"))["data"]
        path.write_bytes(base64.b64decode(data))

    async def choose(self, selector: str, file: Path) -> None:
        """Put a file into an input."""
        found = await self.call("Runtime.evaluate", expression=f"document.querySelector('{selector}')")
        await self.call("DOM.setFileInputFiles", objectId=found["result"]["objectId"], files=[str(file)])

    async def video(self) -> CardReading | None:
        """The test card as the page's video element shows it now."""
        draw = (
            "(() => { const v = document.querySelector('video'), c = document.createElement('canvas');"
            " c.width = v.videoWidth; c.height = v.videoHeight; c.getContext('2d').drawImage(v, 0, 0);"
            " return c.width ? c.toDataURL('image/png').split(',')[1] : ''; })()"
        )
        data = await self.run(draw)
        return _card(data) if data else None

    async def canvas(self) -> CardReading | None:
        """What the page shows of the test card."""
        data = await self.run("document.querySelector('canvas').toDataURL('image/png').split(',')[1]")
        return _card(data)


def _card(png: str) -> CardReading | None:
    image = cv2.imdecode(np.frombuffer(base64.b64decode(png), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return read_card(np.ascontiguousarray(image[..., ::-1], np.uint8))


class Browser:
    """A running browser; ``port`` speaks the DevTools protocol."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port
        self._sockets = contextlib.AsyncExitStack()

    async def open(self, page: str) -> Tab:
        """One more tab."""
        async with httpx.AsyncClient(trust_env=False) as client:
            tab = (await client.put(f"http://127.0.0.1:{self.port}/json/new?{quote(page, safe=':/')}")).json()
        return await self.attach(tab["webSocketDebuggerUrl"])

    async def attach(self, address: str) -> Tab:
        """A tab by the address of its socket."""
        return Tab(await self._sockets.enter_async_context(connect(address, max_size=None, proxy=None)), self)

    async def close(self) -> None:
        """Let go of the tabs' sockets."""
        await self._sockets.aclose()


@contextlib.contextmanager
def _profile() -> Iterator[str]:
    """A folder that goes away, though the browser's last processes may still write to it for a moment."""
    folder = tempfile.mkdtemp(prefix="visavis-test-")
    try:
        yield folder
    finally:
        gone = 0
        for _ in range(50):
            shutil.rmtree(folder, ignore_errors=True)
            gone = 0 if Path(folder).exists() else gone + 1
            if gone == 3:  # nobody made it anew
                break
            time.sleep(0.1)


@contextlib.asynccontextmanager
async def chromium(page: str, *flags: str, ready: str = LOADED) -> AsyncIterator[Tab]:
    """A browser that shows ``page``, from when the script ``ready`` is true there."""
    port = free_port()
    with _profile() as profile:
        process = await asyncio.create_subprocess_exec(
            *(require("chromium", "chromium"), *FLAGS, f"--user-data-dir={profile}"),
            *(*flags, f"--remote-debugging-port={port}", page),
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
            browser = Browser(process, port)
            try:
                tab = await browser.attach(socket)
                async with asyncio.timeout(60):
                    while not await tab.run(ready):
                        await asyncio.sleep(0.05)
                yield tab
            finally:
                await browser.close()
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
