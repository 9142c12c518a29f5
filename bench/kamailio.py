"""Two orchestrators behind Kamailio, each drained and started again under load: calls failed, and how they spread.

    python -m bench.kamailio [--callers 10] [--seconds 60]

Each caller makes one voice call after the other, two seconds long. A third into the time the first orchestrator
gets SIGTERM and is started again at its port when it has gone; at two thirds the second one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from testing.caller import CallFailed, Phone
from tests.peers.kamailio import proxy
from tests.support.house import House, orchestrator
from tests.support.servers import inference_server

CALL_S = 2.0


class Load:
    """Calls so far."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.made = 0
        self.failed: list[str] = []
        self.cut = 0
        self.lost = 0
        self.slowest = 0.0

    async def caller(self, until: float) -> None:
        """One call after the other."""
        while time.monotonic() < until:
            self.made += 1
            asked = time.monotonic()
            try:
                async with Phone(self.uri, video=False) as phone:
                    self.slowest = max(self.slowest, time.monotonic() - asked)
                    await asyncio.sleep(CALL_S)
                    self.cut += phone.hung_up.is_set()
                self.lost += phone.recording.audio.lost
            except CallFailed as error:
                self.failed.append(str(error))
                await asyncio.sleep(1.0)


async def restarted(house: House, at: float, server: str, spread: dict[str, str], name: str) -> None:
    """SIGTERM at a moment, and another one in its place; it stays until this is cancelled."""
    await asyncio.sleep(max(0.0, at - time.monotonic()))
    await note(house, spread, name)
    house.process.send_signal(signal.SIGTERM)
    await house.process.wait()
    async with orchestrator([server], drain_s=60, sip_port=house.sip_port) as again:
        try:
            await asyncio.Event().wait()
        finally:
            await note(again, spread, f"{name} again")


async def note(house: House, spread: dict[str, str], name: str) -> None:
    """Calls that an orchestrator has taken since its start, and those that it refused for want of room."""
    text = (await house.api.get("/metrics")).text

    def total(metric: str) -> int:
        lines = [line for line in text.splitlines() if line.startswith(metric)]
        return round(sum(float(line.split()[-1]) for line in lines))

    taken = total("visavis_calls_total{") + total("visavis_calls_active ")
    spread[name] = f"{taken} (overloaded: {total('visavis_calls_refused_total ')} refused)"


@contextlib.asynccontextmanager
async def houses(server: str) -> AsyncIterator[list[House]]:
    """Two orchestrators."""
    async with orchestrator([server], drain_s=60) as first, orchestrator([server], drain_s=60) as second:
        yield [first, second]


async def main() -> int:
    """Print what came of the calls; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--callers", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0)
    options = parser.parse_args()
    spread: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="visavis-bench-", ignore_cleanup_errors=True) as folder:
        async with inference_server() as server, houses(server) as both, proxy(Path(folder), both) as uri:
            load, begin = Load(uri), time.monotonic()
            restarts = [
                asyncio.create_task(
                    restarted(
                        house, begin + options.seconds * (i + 1) / 3, server, spread, f"orchestrator {i + 1}"
                    )
                )
                for i, house in enumerate(both)
            ]
            await asyncio.gather(*(load.caller(begin + options.seconds) for _ in range(options.callers)))
            for task in restarts:
                task.cancel()
            await asyncio.gather(*restarts, return_exceptions=True)
    print(
        f"{load.made} calls, {len(load.failed)} failed, {load.cut} cut, {load.lost} audio packets lost; "
        f"slowest answer {load.slowest:.2f} s"
    )
    print("taken by " + ", ".join(f"{name} {count}" for name, count in sorted(spread.items())))
    for sentence in sorted(set(load.failed)):
        print(sentence, file=sys.stderr)
    return 1 if load.failed or load.cut else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
