"""Conversations by phone: processes, voices, ears and the script are real."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import numpy as np
import pytest

from tests.support.talk import Talk, pid_of, talking
from tests.support.waiting import until

pytestmark = [pytest.mark.process, pytest.mark.slow]
SAID = ("When are you open?", "No, please tell me where you are.")


@pytest.mark.parametrize("codec", ["PCMU", "opus"])
async def test_a_question_is_answered_and_an_answer_can_be_interrupted(codec: str) -> None:
    async with talking(SAID, codec=codec, greeting="Hello.") as talk:
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
        entries = (await talk.house.api.get(f"/v1/calls/{talk.call}/transcript")).json()["entries"]
        assert [each["speaker"] for each in entries[-4:]] == ["caller", "assistant"] * 2
    lines = "\n".join(json.dumps(line) for line in talk.house.log)
    assert "Monday" not in lines and said["text"] not in lines


@pytest.mark.parametrize("module", ["orchestrator.listening.process", "orchestrator.speech.process"])
async def test_a_process_that_dies_in_mid_turn_costs_no_call(module: str) -> None:
    async with talking(SAID, greeting="Hello.") as talk:
        await talk.of("turn_finished", turn_id=1)
        for _ in range(3):
            begun, heard = len(talk.all("speech_started")), len(talk.all("reply", whole=True))
            talk.say(SAID[0])
            await talk.of("speech_started", begun + 1)
            killed = pid_of(talk.house, module)
            os.kill(killed, signal.SIGKILL)
            await until(lambda killed=killed: pid_of(talk.house, module) not in (0, killed))  # type: ignore[misc]
            if "listening" in module:  # what it was hearing is lost, what is said next is not
                await hears(talk)
                talk.say(SAID[0])
            # The answer, or on a machine that is slow to start another one, that there is none just now.
            await talk.of("reply", heard + 1, whole=True)
        assert (await talk.house.call(talk.call))["ended_at"] is None


async def hears(talk: Talk) -> None:
    """Until callers are understood."""
    async with asyncio.timeout(30):
        while True:
            if (await talk.house.api.get(f"/v1/calls/{talk.call}/assistant")).json()["hears"]:
                return
            await asyncio.sleep(0.05)
