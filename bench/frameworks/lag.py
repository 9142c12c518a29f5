"""Lags out of what came when: the arrival of a picture less the moment its sound is played without delay."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from testing.card import read_card
from tests.support.house import tone

SIZE, FPS, RATE = 320, 25, 24_000
SPEEDS = (8.0, 1.0)
PIECE_S = 0.1


@dataclass
class Arrivals:
    """``pictures``: when each came, and its luma or RGB; ``sounds``: when each came, and its samples."""

    pictures: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)
    sounds: list[tuple[float, int]] = field(default_factory=list)

    def picture(self, pixels: NDArray[np.uint8]) -> None:
        """A picture arrives."""
        self.pictures.append((time.monotonic(), pixels))

    def sound(self, samples: int) -> None:
        """A sound arrives."""
        self.sounds.append((time.monotonic(), samples))

    def report(self) -> str:
        """Median and 95th percentile from the second second on, as :mod:`bench.roomkit.lag` has them."""
        if not self.sounds:
            return "no sound"
        until, samples = 0.0, 0
        at: list[float] = []
        seconds: list[float] = []
        for arrived, count in self.sounds:
            until = max(until, arrived)
            at.append(until)
            seconds.append(samples / RATE)
            until += count / RATE
            samples += count
        lags = []
        for arrived, pixels in self.pictures:
            card = read_card(pixels)
            if card is None or card.mouth is None or card.mouth.frame < FPS:
                continue
            second = card.mouth.frame / FPS
            if second < samples / RATE:
                lags.append((arrived - float(np.interp(second, seconds, at))) * 1000)
        if not lags:
            return "no lips"
        rate = (len(self.pictures) - 1) / (self.pictures[-1][0] - self.pictures[0][0])
        median, high = np.percentile(lags, (50, 95))
        return (
            f"{len(lags)} pictures: median {median:+.0f} ms, p95 {high:+.0f} ms; {rate:.2f} pictures a second"
        )


async def voice(speed: float, seconds: float = 5.0) -> AsyncIterator[NDArray[np.int16]]:
    """A reply in pieces of 100 ms, ``speed`` times as fast as it is heard."""
    sound: Sequence[int] | NDArray[np.int16] = tone(seconds, rate=RATE)
    size, began = round(RATE * PIECE_S), time.monotonic()
    for index, start in enumerate(range(0, len(sound), size)):
        await asyncio.sleep(max(0.0, began + index * PIECE_S / speed - time.monotonic()))
        yield np.asarray(sound[start : start + size], np.int16)
