"""Whether repeated video packets move the voice: its beat at the sender's socket, with and without, in one call."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from testing.caller import Phone
from testing.caller.path import LossyPath
from tests.support.house import House, tone

STRETCH_S = 15.0
SETTLE_S = 6.0
"""Not counted after each change: NACKs are looked for in every slot for five seconds after the last one."""
VOICE_RATE = 8000


@dataclass(frozen=True)
class Beat:
    """How far voice packets left from their even beat: milliseconds, by the kernel's clock."""

    packets: int
    median: float
    p99: float

    @classmethod
    def of(cls, away: NDArray[np.float64]) -> Beat:
        """Of distances in milliseconds."""
        return cls(len(away), float(np.median(away)), float(np.quantile(away, 0.99)))

    def __str__(self) -> str:
        return f"median {self.median:.2f} ms, p99 {self.p99:.1f} ms of {self.packets} packets"


@dataclass(frozen=True)
class Comparison:
    """The beat in stretches without loss, and in those with loss in which ``repeated`` packets were sent again."""

    reference: Beat
    lossy: Beat
    repeated: int

    def __str__(self) -> str:
        return (
            f"voice off its beat without loss {self.reference}; "
            f"while {self.repeated} video packets are sent again {self.lossy}; "
            f"ratio {self.lossy.median / self.reference.median:.2f} (median), "
            f"{self.lossy.p99 / self.reference.p99:.2f} (p99)"
        )


async def compare(house: House, share: float, *, rtt: float, pairs: int = 4) -> Comparison:
    """One call that talks, its video lossy in every other stretch."""
    async with (
        LossyPath(share, rtt / 2, burst=3.0) as video,
        LossyPath(0.0, rtt / 2, clock_rate=VOICE_RATE) as audio,
        Phone(house.uri, path=video, audio_path=audio, nack=True) as phone,
    ):
        video.lossy = False
        talking = asyncio.create_task(_talk(house, await house.call_id()))
        stretches: list[tuple[float, float, bool]] = []
        await asyncio.sleep(3.0)
        for number in range(2 * pairs):
            video.lossy = number % 2 == 1
            await asyncio.sleep(SETTLE_S)
            began = time.monotonic()
            await asyncio.sleep(STRETCH_S - SETTLE_S)
            stretches.append((began, time.monotonic(), video.lossy))
        talking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await talking
        assert phone.repair is not None
    packets = audio.entered.ordered()
    sent = np.array([p.arrived for p in packets])
    offset = sent - np.array([p.timestamp for p in packets]) / VOICE_RATE
    away: dict[bool, list[NDArray[np.float64]]] = {False: [], True: []}
    for begin, end, lossy in stretches:
        within = offset[(sent >= begin) & (sent < end)]
        away[lossy].append(np.abs(within - np.median(within)) * 1000)
    repeated = sum(
        c.repeats and any(begin <= c.at < end for begin, end, lossy in stretches if lossy)
        for c in video.crossings
    )
    return Comparison(Beat.of(np.concatenate(away[False])), Beat.of(np.concatenate(away[True])), repeated)


async def _talk(house: House, call: str) -> None:
    while True:
        await house.turn(call, await house.play(call, [(0.0, tone(3.0))]))
        await asyncio.sleep(2.0)
