"""What a recorded call costs: CPU of each process with and without recording, in the same run, and bytes a minute.

.venv/bin/python -m bench.recording --calls 4 --seconds 20
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
from pathlib import Path

from testing.caller import Phone
from testing.processes import Process, family
from tests.support.house import House, orchestrator
from tests.support.servers import inference_server
from visavis import portraits

TEXT = "We are open from nine to six, Monday to Friday, and on Saturdays in the morning. "
_NAMES = {
    "orchestrator.worker.worker": "media worker",
    "orchestrator.recording.process": "recorder",
    "orchestrator.speech.process": "voices",
}


def cpu(house: House) -> dict[str, float]:
    """CPU seconds of each process so far."""
    used = {"control": Process.read(house.process.pid).cpu_s}
    for pid in family(house.process.pid)[1:]:
        line = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        used |= {name: Process.read(pid).cpu_s for module, name in _NAMES.items() if module in line}
    return used


async def spent(house: House, calls: list[str], seconds: float, speak: bool) -> dict[str, float]:
    """CPU of each process meanwhile, in per cent of a core for each call."""
    if speak:
        for call in calls:
            await house.api.post(f"/v1/calls/{call}/say", json={"text": TEXT * int(1 + seconds / 4)})
        await asyncio.sleep(1.0)
    before = cpu(house)
    await asyncio.sleep(seconds)
    after = cpu(house)
    for call in calls:
        await house.api.post(f"/v1/calls/{call}/interrupt")
    return {name: 100 * (used - before.get(name, 0.0)) / seconds / len(calls) for name, used in after.items()}


async def measure(count: int, seconds: float) -> None:
    """The default face, idle and speaking, not recorded and recorded."""
    face = portraits.DEFAULT.read_bytes()
    async with (
        inference_server("portrait") as server,
        orchestrator([server], portrait=face) as house,
        contextlib.AsyncExitStack() as stack,
    ):
        for _ in range(count):
            await stack.enter_async_context(Phone(house.uri))
        calls = [each["call_id"] for each in (await house.api.get("/v1/calls")).json()]
        await house.idle_cached(calls[0])
        for speak in (False, True):
            plain = await spent(house, calls, seconds, speak)
            for call in calls:
                (await house.api.post(f"/v1/calls/{call}/recording")).raise_for_status()
            await asyncio.sleep(2.0)
            recorded = await spent(house, calls, seconds, speak)
            for call in calls:
                await house.api.delete(f"/v1/calls/{call}/recording")
            await asyncio.sleep(3.0)
            files = (await house.api.get(f"/v1/recordings?limit={count}")).json()
            size = sum(each["bytes"] for each in files) / sum(each["seconds"] for each in files) * 60 / 1e6
            what = "speaking" if speak else "idle"
            print(f"{count} {what} calls, {size:.2f} MB a minute; per cent of a core for each call:")
            for name in recorded:
                print(f"  {name}: {plain.get(name, 0.0):.2f} without, {recorded[name]:.2f} with recording")


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.calls, arguments.seconds))


if __name__ == "__main__":
    main()
