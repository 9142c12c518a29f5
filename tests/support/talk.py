"""A caller who talks with an assistant: a phone, and the events of its call as they come."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from testing.caller import Phone
from tests.support.house import House, orchestrator
from tests.support.servers import inference_server
from tests.support.speech import speech
from tests.support.waiting import PATIENCE_S

RATES = {"PCMU": 8000, "PCMA": 8000, "opus": 48_000}


class Talk:
    """One call."""

    def __init__(self, house: House, phone: Phone, call: str) -> None:
        self.house, self.phone, self.call = house, phone, call
        self.events: list[dict[str, Any]] = []

    async def follow(self) -> None:
        """Collect events until cancelled."""
        path = f"/v1/events?call_id={self.call}"
        async with self.house.api.stream("GET", path, timeout=None) as stream:
            async for line in stream.aiter_lines():
                if line.startswith("data:"):
                    self.events.append(json.loads(line[5:]))

    def all(self, kind: str, **wanted: Any) -> list[dict[str, Any]]:
        """Every event of this kind so far that has these fields."""
        return [each for each in self.events if each["event"] == kind and wanted.items() <= each.items()]

    async def of(self, kind: str, count: int = 1, **wanted: Any) -> dict[str, Any]:
        """The event of this kind, once so many have come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(found := self.all(kind, **wanted)) < count:
                await asyncio.sleep(0.02)
            return found[count - 1]

    def say(self, text: str) -> None:
        """Speak; the sound was made before."""
        self.phone.microphone.speak(speech(text, self.phone.recording.rate))


def pid_of(house: House, module: str) -> int:
    """The newest process of this orchestrator that runs a module; 0 for none."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode().split("\0")
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except OSError:
                continue  # gone
            if module in line and parent == house.process.pid:
                found.append(int(entry.name))
    return max(found, default=0)


@contextlib.asynccontextmanager
async def calling(house: House, codec: str = "PCMU") -> AsyncIterator[Talk]:
    """One more call to a running orchestrator."""
    async with Phone(house.uri, codec=codec) as phone:
        talk = Talk(house, phone, await house.call_id())
        following = asyncio.create_task(talk.follow())
        try:
            yield talk
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


@contextlib.asynccontextmanager
async def talking(texts: Sequence[str], *, codec: str = "PCMU", **settings: Any) -> AsyncIterator[Talk]:
    """A call to an orchestrator of its own; ``texts`` are what the caller is going to say."""
    for text in texts:  # a phone that computes is a late phone
        speech(text, RATES[codec])
    async with (
        inference_server() as server,
        orchestrator([server], **{"assistant": "scripted", **settings}) as house,
        calling(house, codec) as talk,
    ):
        yield talk
