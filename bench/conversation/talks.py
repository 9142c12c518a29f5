"""A conversation to measure: both services, one caller, what is said, and how figures are printed."""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.conversation.sound import Heard, first_sound, last_word
from tests.support.house import House, orchestrator
from tests.support.servers import running_server
from tests.support.speech import speech
from tests.support.talk import Talk
from visavis import portraits

CLOSED = (
    "When are you open?",
    "What can you do?",
    "Where are you?",
    "Are you human?",
    "How much does it cost?",
    "Please tell me when you are open.",
)
CUT_IN = "No, wait, I want something else."
STORY = (
    "I will now tell you a long story about the sea and the people who live beside it. "
    "They get up early in the morning and look at the sky before they do anything else. "
    "When the wind comes from the west they stay at home and mend their nets. "
    "When it comes from the east they go out in small boats and come back in the evening. "
)


@contextlib.asynccontextmanager
async def house(engine: str, **settings: Any) -> AsyncIterator[House]:
    """Both services, with the scripted assistant or as set."""
    values: dict[str, Any] = {"assistant": "scripted", "greeting": "Hello.", **settings}
    async with (
        running_server(engine=engine) as server,
        orchestrator([server.address], portrait=portraits.DEFAULT.read_bytes(), **values) as running,
    ):
        yield running


async def listening(talk: Talk) -> None:
    """Until the greeting is over and callers are understood."""
    await talk.house.idle_cached(talk.call)
    path = f"/v1/calls/{talk.call}/assistant"
    while True:
        seen = (await talk.house.api.get(path)).json()
        if seen["hears"] and seen["state"] == "listening":
            return
        await asyncio.sleep(0.1)


async def ask(talk: Talk, text: str) -> float:
    """Say something and hear the answer to its end; milliseconds from the last word to the first sound of it."""
    answers, rate = len(talk.all("latency")), talk.phone.recording.rate
    pcm = speech(text, rate)
    talk.say(text)
    answer = await talk.of("latency", answers + 1)
    await talk.of("reply", turn_id=answer["turn_id"])
    ended = talk.phone.microphone.began[-1] + last_word(pcm, rate)
    await listening(talk)
    return (first_sound(talk.phone.recording, ended) - ended) * 1000


async def told(talk: Talk, text: str) -> tuple[int, Heard]:
    """Have a text begun; its turn, and what is heard of it from its first sound on."""
    since = time.monotonic()
    answer = await talk.house.api.post(f"/v1/calls/{talk.call}/say", json={"text": text})
    turn = int(answer.json()["turn_id"])
    await talk.of("turn_started", turn_id=turn)
    await asyncio.sleep(1.0)
    return turn, Heard(talk.phone.recording, first_sound(talk.phone.recording, since))


async def cut_off(talk: Talk, turn: int) -> bool:
    """End a turn of ours where it still speaks; whether it had been interrupted before."""
    before = bool(talk.all("turn_interrupted", turn_id=turn))
    await talk.house.api.post(f"/v1/calls/{talk.call}/interrupt")
    await asyncio.sleep(0.5)
    await listening(talk)
    return before


def report(name: str, values: Sequence[float] | NDArray[np.float64], goal: str = "") -> None:
    """Median, 95th percentile and worst, in milliseconds."""
    if len(values):
        ordered = sorted(values)
        p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
        print(
            f"{name:<28} median {statistics.median(ordered):5.0f} ms, p95 {p95:5.0f}, worst {ordered[-1]:5.0f}"
            f" ({len(ordered)}){f'; goal: {goal}' if goal else ''}",
            flush=True,
        )
