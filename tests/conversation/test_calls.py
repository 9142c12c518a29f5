"""Conversations by phone: processes, voices, ears and the script are real."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from testing.caller import Phone
from tests.support.house import House, orchestrator
from tests.support.servers import inference_server
from tests.support.speech import speech

pytestmark = [pytest.mark.process, pytest.mark.slow]


SAID = ("When are you open?", "No, please tell me where you are.")


class Talk:
    """A caller, and the events of the call as they come."""

    def __init__(self, house: House, phone: Phone, call: str) -> None:
        self.house, self.phone, self.call = house, phone, call
        self.events: list[dict[str, Any]] = []

    async def follow(self) -> None:
        async with self.house.api.stream("GET", "/v1/events", timeout=None) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    self.events.append(json.loads(line[5:]))

    async def of(self, kind: str, count: int = 1, **wanted: Any) -> dict[str, Any]:
        """The event of this kind, once so many have come."""
        async with asyncio.timeout(30):
            while True:
                found = [
                    each for each in self.events if each["event"] == kind and wanted.items() <= each.items()
                ]
                if len(found) >= count:
                    return found[count - 1]
                await asyncio.sleep(0.02)

    def say(self, text: str) -> None:
        self.phone.microphone.speak(speech(text, self.phone.recording.rate))


@contextlib.asynccontextmanager
async def talking(*, codec: str = "PCMU", **settings: Any) -> AsyncIterator[Talk]:
    for text in SAID:  # a phone that computes is a late phone
        speech(text, {"PCMU": 8000, "opus": 48_000}[codec])
    async with (
        inference_server() as server,
        orchestrator([server], assistant="scripted", **settings) as house,
        Phone(house.uri, codec=codec) as phone,
    ):
        talk = Talk(house, phone, await house.call_id())
        following = asyncio.create_task(talk.follow())
        try:
            yield talk
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


@pytest.mark.parametrize("codec", ["PCMU", "opus"])
async def test_a_question_is_answered_and_an_answer_can_be_interrupted(codec: str) -> None:
    async with talking(codec=codec, greeting="Hello.") as talk:
        await talk.of("turn_finished", turn_id=1)
        talk.say(SAID[0])
        said = await talk.of("transcript", final=True)
        assert "open" in said["text"].lower()
        assert (await talk.of("latency"))["total_ms"] > 0
        await talk.of("turn_started", turn_id=2)
        await asyncio.sleep(1.0)
        talk.say(SAID[1])
        cut = await talk.of("reply", whole=False)
        assert cut["text"] and "We are open from nine to six, Monday to Friday.".startswith(cut["text"])
        answer = await talk.of("reply", whole=True, turn_id=3)
        assert "town hall" in answer["text"]
        await asyncio.sleep(0.2)
        assert np.abs(talk.phone.recording.samples()).max() > 3000
    lines = "\n".join(json.dumps(line) for line in talk.house.log)
    assert "Monday" not in lines and said["text"] not in lines
