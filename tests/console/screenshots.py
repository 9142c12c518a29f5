"""The console's pictures for the docs: ``python -m tests.console.screenshots FOLDER`` makes them anew."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from tests.console.test_call import CALL, LIVE, READY, console
from tests.support.chromium import FAKE_DEVICES, Tab, chromium
from tests.support.house import orchestrator, picture
from tests.support.servers import inference_server
from visavis import portraits

WIDTHS = {"wide": (1280, 860), "narrow": (390, 844)}
PAGES = ("call", "calls", "records", "faces", "system")
TEXT = "Nice to meet you. I am a face for phone calls, and this is how I look while I speak to you."


async def size(tab: Tab, width: int, height: int) -> None:
    await tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
    )  # fmt: skip


async def shoot(tab: Tab, folder: Path, state: str) -> None:
    for name, (width, height) in WIDTHS.items():
        await size(tab, width, height)
        await asyncio.sleep(0.6)
        await tab.picture(folder / f"console-{state}-{name}.png")


async def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    async with (
        inference_server("portrait") as server,
        orchestrator([server], portrait=portraits.DEFAULT.read_bytes()) as house,
        chromium(console(house), *FAKE_DEVICES, ready=READY) as tab,
    ):
        await asyncio.sleep(1.0)
        await shoot(tab, folder, "ready")
        await tab.run(CALL)
        await tab.until(LIVE)
        call = await house.call_id()
        await house.idle_cached(call)
        await house.api.post(f"/v1/calls/{call}/say", json={"text": TEXT})
        await asyncio.sleep(2.0)
        await shoot(tab, folder, "call")
        await tab.run("location.hash = 'calls'")
        await tab.until("Boolean(document.querySelector('.item'))")
        await tab.run("document.querySelector('.item').click()")
        await asyncio.sleep(5.0)
        await shoot(tab, folder, "live")
        await tab.run("location.hash = 'faces'")
        await tab.until("document.querySelectorAll('.faces img').length > 0")
        noise = folder / "noise.png"
        noise.write_bytes(picture())
        await tab.choose("#photo", noise)
        await tab.until("Boolean(document.querySelector('.message'))")
        noise.unlink()
        await shoot(tab, folder, "refused")
        await size(tab, *WIDTHS["wide"])
        await tab.run("document.querySelector('.theme').click()")
        await tab.run("document.querySelector('.theme').click()")
        for page in PAGES:
            await tab.run(f"location.hash = '{page}'")
            await asyncio.sleep(1.0)
            await tab.picture(folder / f"dark-{page}.png")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
