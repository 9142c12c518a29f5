"""The console plays a recording: real Chromium decodes what the recorder wrote."""

from __future__ import annotations

import asyncio

import pytest

from testing.caller import Phone
from tests.console.test_call import READY, console
from tests.support.chromium import chromium
from tests.support.house import orchestrator, tone
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("chromium")]
VIDEO = "document.querySelector('video.recording')"


async def test_a_recording_is_fetched_and_played() -> None:
    async with inference_server() as server, orchestrator([server], recording="every") as house:
        async with Phone(house.uri):
            call = await house.call_id()
            await house.idle_cached(call)
            await house.turn(call, await house.play(call, [(0.0, tone(2.0))]))
        async with asyncio.timeout(20):
            while True:
                found = (await house.api.get(f"/v1/recordings?call_id={call}")).json()
                if found and found[0]["state"] == "whole":
                    break
                await asyncio.sleep(0.1)
        async with chromium(console(house), ready=READY) as tab:
            await tab.run("location.hash = 'records', true")
            await tab.until("Boolean(document.querySelector('.item'))")
            await tab.run("document.querySelector('.item').click()")
            fetch = (
                "[...document.querySelectorAll('.detail button')].find(b => b.textContent.includes('part 1'))"
            )
            await tab.until(f"Boolean({fetch})")
            await tab.run(f"{fetch}.click()")
            await tab.until(f"{VIDEO}?.readyState >= 2")
            duration = await tab.run(f"{VIDEO}.duration")
            assert duration == pytest.approx(found[0]["seconds"], abs=0.2)
            assert await tab.run(f"{VIDEO}.videoWidth") == 512
            await tab.run(f"{VIDEO}.play().then(() => true)")
            await tab.until(f"{VIDEO}.currentTime > 1 && {VIDEO}.webkitAudioDecodedByteCount > 0")
            await tab.run(f"{VIDEO}.currentTime = {duration / 2}, true")
            await tab.until(f"!{VIDEO}.seeking && {VIDEO}.readyState >= 2")
            assert await tab.run("document.querySelector('figcaption a').download") == f"{call}-1.mp4"
