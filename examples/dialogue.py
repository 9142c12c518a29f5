"""The spoken dialogue of the demo: a caller's voice asks, the face answers, and is interrupted once."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray

from orchestrator.speech.finish import FinishedVoice
from orchestrator.speech.hibari import HibariVoice
from testing.caller import Phone
from visavis.audio import Resampler

QUESTION = "When are you open?"
INTERRUPTION = "And please tell me where you are."
ANSWER_S = 15.0
_DEEPER = 20_400
"""The caller has the face's voice, at a slower rate: samples a second instead of 24 000."""


async def callers_voice(text: str, rate: int) -> NDArray[np.int16]:
    """``(n,)`` at ``rate`` Hz."""
    voice = FinishedVoice(HibariVoice(speed=1.2))
    resampler = Resampler(_DEEPER, rate)
    chunks = [resampler.push(chunk) async for chunk in voice.stream(text, "en")]
    return np.concatenate((*chunks, resampler.flush()))


async def callers_words(rate: int) -> tuple[NDArray[np.int16], ...]:
    """Everything that the caller says; made before the call, since a phone that computes is late."""
    return tuple([await callers_voice(text, rate) for text in (QUESTION, INTERRUPTION)])


async def hold_dialogue(
    api: httpx.AsyncClient, phone: Phone, call_id: str, words: tuple[NDArray[np.int16], ...]
) -> list[str]:
    """The whole of it; returns what both have said, a line each. Raises ``TimeoutError`` where no answer comes."""
    question, interruption = words
    phone.microphone.speak(question)
    before = await _turns(api, call_id)
    await _until(api, call_id, before + 1, "speaking")
    await asyncio.sleep(1.6)
    phone.microphone.speak(interruption)
    await _until(api, call_id, before + 1, "interrupted")
    await _until(api, call_id, before + 2, "finished")
    entries = (await api.get(f"/v1/calls/{call_id}/transcript")).raise_for_status().json()["entries"]
    return [_line(entry) for entry in entries]


async def talk_with(api: httpx.AsyncClient, call_id: str, assistant: str) -> None:
    """Have this assistant talk with the caller, and wait until it can listen."""
    change = await api.patch(f"/v1/calls/{call_id}/assistant", json={"assistant": assistant})
    change.raise_for_status()
    async with asyncio.timeout(ANSWER_S):
        while True:
            if (await api.get(f"/v1/calls/{call_id}/assistant")).json()["hears"]:
                return
            await asyncio.sleep(0.1)


def _line(entry: dict[str, Any]) -> str:
    cut = "" if entry["whole"] else " ... (interrupted)"
    return f"{entry['speaker']:<15} {entry['text']}{cut}"


async def _turns(api: httpx.AsyncClient, call_id: str) -> int:
    return len((await api.get(f"/v1/calls/{call_id}")).raise_for_status().json()["turns"])


async def _until(api: httpx.AsyncClient, call_id: str, number: int, state: str) -> None:
    """Until the turn of this number or a later one, and not one that was dropped in silence, is in this state."""
    async with asyncio.timeout(ANSWER_S):
        while True:
            call = (await api.get(f"/v1/calls/{call_id}")).raise_for_status().json()
            heard = [turn for turn in call["turns"] if turn["state"] == "speaking" or turn["heard_ms"]]
            if any(turn["state"] == state for turn in heard[number - 1 :]):
                return
            await asyncio.sleep(0.05)
