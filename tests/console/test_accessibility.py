"""axe-core finds nothing serious on any page of the console, light and dark, wide and narrow."""

from __future__ import annotations

import json

import pytest

from tests.console.screenshots import WIDTHS, size
from tests.console.test_call import CALL, LIVE, READY, console
from tests.peers.npm import bundle
from tests.support.chromium import FAKE_DEVICES, Tab, chromium
from tests.support.house import orchestrator, picture
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("chromium", "npm")]


async def serious(tab: Tab) -> list[str]:
    """What axe-core holds for serious or critical."""
    found = await tab.run(
        "axe.run().then(r => r.violations.filter(v => ['serious', 'critical'].includes(v.impact))"
        ".map(v => `${v.id}: ${v.nodes.map(n => n.html.slice(0, 120)).join(' | ')}`))"
    )
    return [str(one) for one in found]


async def test_nothing_serious_is_found() -> None:
    script = bundle("axe")
    faults: dict[str, list[str]] = {}
    async with (
        inference_server() as server,
        orchestrator([server], portrait=picture()) as house,
        chromium(console(house), *FAKE_DEVICES, ready=READY) as tab,
    ):
        await tab.run(f"(() => {{ {script}; window.axe ??= axe; }})(), true")
        await tab.run(CALL)
        await tab.until(LIVE)
        for theme in ("light", "dark"):
            await tab.run(f"document.documentElement.dataset.theme = '{theme}', true")
            for width, shape in WIDTHS.items():
                await size(tab, *shape)
                for page in ("call", "calls", "records", "faces", "system"):
                    await tab.run(f"location.hash = '{page}', true")
                    await tab.until(f"document.querySelector('nav [aria-current]')?.hash === '#{page}'")
                    if page == "calls":
                        await tab.until("Boolean(document.querySelector('.item'))")
                        await tab.run("document.querySelector('.item').click()")
                    await tab.run("new Promise(done => setTimeout(() => done(true), 500))")
                    if found := await serious(tab):
                        faults[f"{page} {theme} {width}"] = found
        await tab.run("location.hash = 'call', true")
        await tab.run("document.querySelector('.bar .stop').click()")
        await tab.until(READY)
        await tab.run("new Promise(done => setTimeout(() => done(true), 500))")
        if found := await serious(tab):
            faults["before a call"] = found
    assert not faults, json.dumps(faults, indent=1)


async def test_a_keyboard_is_enough_to_call_and_hang_up() -> None:
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        chromium(console(house), *FAKE_DEVICES, ready=READY) as tab,
    ):

        async def press(key: str, code: int) -> None:
            for kind in ("keyDown", "keyUp"):
                await tab.call(
                    "Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                    **({"text": "\r"} if key == "Enter" and kind == "keyDown" else {}),
                )  # fmt: skip

        async def walk_to(selector: str) -> None:
            for _ in range(40):
                await press("Tab", 9)
                if await tab.run(f"document.activeElement.matches('{selector}')"):
                    return
            raise AssertionError(f"no Tab leads to {selector}")

        await walk_to(".big")
        await press("Enter", 13)
        await tab.until(LIVE)
        await walk_to(".bar .stop")
        await press("Enter", 13)
        await tab.until("window.visavis.call.state === 'ended'")
