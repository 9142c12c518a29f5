"""Interruptions in mid-sentence as a phone receives them, with the test card: silence, closed mouth, position."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import av
import numpy as np

from testing.caller import Phone
from testing.card import CardReading, read_card
from tests.support.house import House, tone

SENTENCE_S = 6.0
PAUSE_S = 0.7  # after an interruption, before its packets are looked at
_QUIET = {b"\xff" * 160, b"\x7f" * 160}


@dataclass
class BargeIn:
    """Milliseconds from the HTTP request to the arrival of the last spoken packet and of the first picture with
    no trace of a mouth; pictures with one in between, and how far the reported position was from what came."""

    silence: list[float] = field(default_factory=list)
    closed: list[float] = field(default_factory=list)
    pictures: list[int] = field(default_factory=list)
    position: list[float] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """What to print."""
        for name, values in (("silence", self.silence), ("closed mouth", self.closed)):
            yield (
                f"interrupt to {name} on the wire over {len(values)} turns: median {np.median(values):.0f} ms, "
                f"p95 {np.percentile(values, 95):.0f} ms, worst {max(values):.0f} ms"
            )
        yield (
            f"pictures with a trace of the mouth after the request: median {np.median(self.pictures):.0f}, "
            f"most {max(self.pictures)}; reported playback position off by at most {max(self.position):.0f} ms"
        )


async def barge_in(house: House, phone: Phone, turns: int) -> BargeIn:
    """Interrupt so many sentences of the test card, each at another moment of a frame."""
    found, chance = BargeIn(), random.Random(1)
    call = await house.call_id()
    await house.idle_cached(call)
    sound, asked = tone(SENTENCE_S), []
    for _ in range(turns):
        began = time.monotonic()
        turn = await house.play(call, [(0.0, sound)])
        await asyncio.sleep(1.2 + chance.random() * 0.2)
        asked.append(time.monotonic())
        await house.api.post(f"/v1/calls/{call}/interrupt")
        over = await house.turn(call, turn)
        await asyncio.sleep(PAUSE_S)
        spoken = [
            p.arrived for p in phone.recording.audio.packets if p.arrived > began and p.payload not in _QUIET
        ]
        found.silence.append((max(spoken) - asked[-1]) * 1000)
        found.position.append(abs(over["heard_ms"] - 20 * len(spoken)))
    cards = list(_cards(phone))
    for at in asked:
        after = [(arrived, card) for arrived, card in cards if at < arrived < at + PAUSE_S]
        mouths = [n for n, (_, card) in enumerate(after) if card is None or card.mouth is not None]
        still = max(mouths, default=-1) + 1  # the first picture from which on there is none
        found.closed.append((after[still][0] - at) * 1000)
        found.pictures.append(still)
    return found


def _cards(phone: Phone) -> Iterator[tuple[float, CardReading | None]]:
    """Arrival and reading of each picture; ``None`` for a blend of two."""
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    for data, _, arrived in phone.recording.access_units():
        decoder.flags |= 0x80000  # AV_CODEC_FLAG_LOW_DELAY: each picture comes with its own packet
        for picture in decoder.decode(av.Packet(data)):
            yield arrived, read_card(picture.to_ndarray()[: picture.height])
