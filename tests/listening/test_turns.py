"""Whose sound is recognised next."""

from __future__ import annotations

import asyncio
import threading

import numpy as np
import pytest

from orchestrator.listening.context import Understood
from orchestrator.listening.recognition import Recognition
from orchestrator.listening.turns import ShortestFirst


async def test_a_short_sound_does_not_wait_for_long_ones_that_came_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recognition, done, go = Recognition(lambda state: None), list[int](), threading.Event()

    class Slow:
        def understand(self, sound: np.ndarray, before: object) -> Understood:
            go.wait(5)
            done.append(len(sound))
            return Understood(sound, (), "")

    monkeypatch.setattr(recognition, "_own", Slow())
    asked = [
        asyncio.create_task(recognition.own(np.zeros(samples, np.float32), (), lambda: True))
        for samples in (300, 400, 350, 20, 30)
    ]
    await asyncio.sleep(0)
    go.set()
    await asyncio.gather(*asked)
    await recognition.close()
    assert done == [300, 20, 30, 350, 400]


async def test_whoever_gives_up_keeps_nobody_waiting() -> None:
    turns, came = ShortestFirst(), list[int]()

    async def wait(samples: int) -> None:
        async with turns.turn(samples):
            came.append(samples)
            await asyncio.sleep(0)

    async with turns.turn(1):
        waiting = [asyncio.create_task(wait(samples)) for samples in (2, 3, 4)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
    waiting[0].cancel()  # it has its turn, and has not begun
    await asyncio.gather(*waiting, return_exceptions=True)
    assert came == [4]
    async with turns.turn(5):
        pass
