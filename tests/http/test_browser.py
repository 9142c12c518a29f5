"""The browser page in a real browser: Chromium loads it, speaks, and its canvas shows what the server drew."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import functools
import itertools
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from testing.card import CardReading
from tests.peers.peers import require
from tests.support.chromium import chromium
from tests.support.credentials import FLEET_TOKEN
from tests.support.house import picture, tone, wav_header
from tests.support.http import client, url
from tests.support.portraits import IRIS
from tests.support.servers import ROOT, running_server
from tests.support.vowels import vowels

pytestmark = pytest.mark.process
READY = "document.readyState === 'complete' && 'onclick' in (window.go || {})"


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
            chromium(f"{origin}/browser_client.html", ready=READY) as tab,
        ):
            await tab.choose("#image", image)
            await tab.choose("#speech", speech)
            await tab.run(f"document.querySelector('#url').value = '{url(server)}'")
            await tab.run(f"document.querySelector('#token').value = '{FLEET_TOKEN}'")
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


DRAWN = """
window.drawn = [];
const plain = window.toRgba, face = document.querySelector('#face');
window.toRgba = (pixels, width, height) => {
  const whole = width === face.width && height === face.height, { buffer, byteOffset } = pixels;
  drawn.push(whole ? ['body', byteOffset / (width * height * 3 / 2)]
                   : ['mouth', new DataView(buffer).getUint32(24, true)]);
  return plain(pixels, width, height);
};
"""
"""The page tells which body frames it draws, and for which one each mouth was drawn."""


@pytest.mark.slow
@pytest.mark.peer("chromium")
async def test_the_body_goes_where_the_server_leads_it(tmp_path: Path) -> None:
    require("chromium", "chromium")
    speech = tmp_path / "speech.wav"
    speech.write_bytes(wav_header() + vowels(8, 16_000).tobytes())
    with examples() as origin:
        async with (
            running_server(engine="portrait", slots=1, http_origins=origin) as server,
            chromium(f"{origin}/browser_client.html", ready=READY) as tab,
        ):
            await tab.choose("#image", IRIS)
            await tab.choose("#speech", speech)
            await tab.run(f"document.querySelector('#url').value = '{url(server)}'")
            await tab.run(f"document.querySelector('#token').value = '{FLEET_TOKEN}'")
            await tab.run(DRAWN)
            await tab.run("document.querySelector('#go').click()")
            await tab.until("document.querySelector('#state').textContent.includes('frames')", 90)
            drawn = await tab.run("window.drawn")
            async with client(server) as http:
                avatar = (await http.post("/v1/avatars?fps=25", content=IRIS.read_bytes())).json()
    mouths = [(at, index) for at, (kind, index) in enumerate(drawn) if kind == "mouth"]
    assert len(mouths) > 40
    assert all(drawn[at - 1] == ["body", index] for at, index in mouths)
    bodies = [index for kind, index in drawn if kind == "body"]
    length = avatar["loop_length"]
    steps = [(b - a) % length for a, b in itertools.pairwise(bodies)]
    assert any(
        step > length // 2 for step in steps
    )  # back: playing on, with pictures left out, is no such step
