"""How soon a phone that lost its key frame sees again: ``python -m bench.keyframes [--asks 20]``

Every packet of every key frame is lost until the phone asks for one, in each of the ways that phones know.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from statistics import median
from typing import get_args

from testing.caller import Phone
from testing.caller.phone import KeyframeRequest
from tests.support.house import House, orchestrator
from tests.support.servers import inference_server

WAYS: tuple[KeyframeRequest, ...] = get_args(KeyframeRequest)
PATIENCE_S = 10.0
BLIND_S = 1.2
"""Longer than the half second in which only one key frame is granted."""


async def recovery(phone: Phone, way: KeyframeRequest) -> float:
    """Lose key frames for a while, ask, and count the seconds until one has come whole."""
    phone.lose_keyframes(True)
    await asyncio.sleep(BLIND_S)
    phone.lose_keyframes(False)
    asked = time.monotonic()
    await phone.request_keyframe(way)
    while time.monotonic() - asked < PATIENCE_S:
        for data, _, arrived in reversed(phone.recording.access_units()):
            if arrived >= asked and b"\0\0\1\x65" in data:
                return arrived - asked
        await asyncio.sleep(0.02)
    return float("inf")


async def blind_call(house: House, way: KeyframeRequest, asks: int) -> list[float]:
    """Seconds to the picture for each time of asking, the first of them after a call that began blind."""
    async with Phone(house.uri, blind=True) as phone:
        await house.call_id()
        return [await recovery(phone, way) for _ in range(asks)]


async def measure(asks: int) -> None:
    """Every way on calls of its own."""
    async with inference_server() as server, orchestrator([server]) as house:
        async with Phone(house.uri):
            await house.idle_cached(await house.call_id())
        for way in WAYS:
            times = [1000 * each for each in await blind_call(house, way, asks)]
            middle, worst = median(times), max(times)
            print(f"{way:11} picture back after {middle:.0f} ms (median of {asks}), {worst:.0f} ms at worst")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--asks", type=int, default=20)
    asyncio.run(measure(parser.parse_args().asks))
