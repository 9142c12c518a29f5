"""Video over a lossy path, measured at the phone: ``python -m bench.loss [--seconds 20] [--rtt-ms 50]``

A picture counts as shown when it is whole, nothing it is predicted from is missing, and it came no later than
``LATEST_S`` after it would have come without loss.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
from dataclasses import dataclass

import numpy as np

from bench.caller import CallFailed, Phone
from bench.caller.path import LossyPath
from bench.caller.recording import Recording
from tests.support.house import House, orchestrator, picture, tone
from tests.support.servers import inference_server

LATEST_S = 0.2


@dataclass(frozen=True)
class Shown:
    """One call over one path. ``frozen_s``: seconds in stretches of more than 120 ms without a new picture."""

    lost: float
    pictures: int
    shown: int
    corrupt: int
    late: int
    frozen_s: float
    asked: int
    recovered: int
    kilobits: float
    bitrate: int

    @property
    def share(self) -> float:
        """Of the pictures sent."""
        return self.shown / self.pictures

    def __str__(self) -> str:
        return (
            f"lost {self.lost:5.1%}: shown {self.share:7.2%} of {self.pictures}, corrupt or missing "
            f"{self.corrupt}, late {self.late}, frozen {self.frozen_s:.2f} s; asked for {self.asked}, "
            f"recovered {self.recovered}; {self.kilobits:.0f} kbit/s, "
            f"limit {self.bitrate / 1000:.0f} kbit/s at the end"
        )


def judge(recording: Recording, fps: int) -> tuple[int, list[float], int, int]:
    """Pictures sent, moments of those shown, corrupt or missing ones, late ones."""
    step = 90_000 // fps
    packets = recording.video.ordered()
    first, last = packets[0].timestamp, packets[-1].timestamp
    whole = {timestamp: (data, arrived) for data, timestamp, arrived in recording.access_units()}
    delays = [arrived - (timestamp - first) / 90_000 for timestamp, (_, arrived) in whole.items()]
    usual = float(np.median(delays))
    skipped = {
        timestamp
        for a, b in itertools.pairwise(packets)
        if b.sequence == a.sequence + 1
        for timestamp in range(a.timestamp + step, b.timestamp, step)
    }  # by a sender that was late itself
    sent = [timestamp for timestamp in range(first, last + 1, step) if timestamp not in skipped]
    shown: list[float] = []
    corrupt = late = 0
    intact = False
    for timestamp in sent:
        data, arrived = whole.get(timestamp, (b"", 0.0))
        if not data:
            intact = False
        elif b"\0\0\1\x65" in data:
            intact = True
        if not intact:
            corrupt += 1
        elif arrived - (timestamp - first) / 90_000 - usual > LATEST_S:
            late += 1
        else:
            shown.append((timestamp - first) / 90_000)
    return len(sent), shown, corrupt, late


async def lossy_call(
    house: House, share: float, *, seconds: float, rtt: float, nack: bool, burst: float = 1.0, fps: int = 25
) -> Shown:
    """One call, speaking half of the time."""
    async with (
        LossyPath(share, rtt / 2, burst=burst) as path,
        Phone(house.uri, path=path, nack=nack) as phone,
    ):
        call = await house.call_id()
        await asyncio.sleep(1.0)
        for _ in range(max(1, round(seconds / 6))):
            turn = await house.play(call, [(0.0, tone(3.0))])
            await house.turn(call, turn)
            await asyncio.sleep(3.0)
        repair = phone.repair
        figures = (await house.call(call))["media"]
        recording = phone.recording
    pictures, shown, corrupt, late = judge(recording, fps)
    gaps = [b - a for a, b in itertools.pairwise(shown) if b - a > 0.12]
    return Shown(
        path.lost / (path.lost + path.passed),
        pictures,
        len(shown),
        corrupt,
        late,
        sum(gaps),
        repair.asked if repair else 0,
        repair.recovered if repair else 0,
        recording.video.octets * 8 * fps / pictures / 1000,
        figures["video_bitrate"],
    )


async def measure(seconds: float, rtt: float) -> None:
    """Every loss with and without NACK."""
    portrait = picture()
    async with inference_server() as server, orchestrator([server], portrait=portrait) as house:
        async with Phone(house.uri):
            await house.idle_cached(await house.call_id())
        for burst, share, nack in itertools.product((1.0, 3.0), (0.01, 0.03, 0.05, 0.10), (True, False)):
            for _ in range(20):
                try:
                    result = await lossy_call(house, share, seconds=seconds, rtt=rtt, nack=nack, burst=burst)
                    break
                except CallFailed:  # 503: other work on this machine
                    await asyncio.sleep(3.0)
            else:
                raise SystemExit("the orchestrator stays overloaded: measure on a machine with less to do")
            kind = "random" if burst == 1 else f"bursts of {burst:.0f}"
            print(f"{share:4.0%} {kind}, {'NACK' if nack else 'PLI only'}: {result}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rtt-ms", type=float, default=50.0)
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(measure(arguments.seconds, arguments.rtt_ms / 1000))
