"""Interruptions while the sound is still being made or sent, and in the first moments of a turn.

Judged by the media's own time stamps and the test card. A clock that got no time sends the picture that is due now,
but the voice packet by packet from where it was: so much later is allowed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from testing.caller import Phone
from testing.caller.recording import Packet, Recording
from tests.support.house import House, orchestrator, tone
from tests.support.servers import inference_server
from tests.support.watched import RATE, Seen, loud, watch

pytestmark = pytest.mark.process

FRAME_S = 0.04
TEXT = "This is a long story, and it will not be told to its end. " * 60
QUIET = {b"\xff" * 160, b"\x7f" * 160}


async def interrupted(house: House, call: str, turn: int, after_s: float) -> float:
    """Interrupt a turn so long after it has begun; returns the seconds that were heard of it."""
    async with asyncio.timeout(60):
        while (await house.call(call))["turns"][turn - 1]["state"] != "speaking":
            await asyncio.sleep(0.005)
    await asyncio.sleep(after_s)
    assert (await house.api.post(f"/v1/calls/{call}/interrupt")).status_code == 204
    over = await house.turn(call, turn)
    assert over["state"] == "interrupted"
    return float(over["heard_ms"]) / 1000


def sent(recording: Recording) -> float:
    """The call's media time so far, in seconds."""
    return len(recording.samples()) / RATE


def lateness(packets: Sequence[Packet]) -> float:
    """How many seconds the latest packet came later than the earliest one would have it."""
    offsets = [p.arrived - p.timestamp / RATE for p in packets]
    return max(offsets) - min(offsets)


def assert_shut_within_two_frames(mouths: Sequence[Seen], heard_s: float, late_s: float) -> None:
    """No mouth for more sound than was heard, and none that stays open after it."""
    most = heard_s + 2 * FRAME_S + late_s
    for seen in mouths:
        assert seen.card.mouth is not None
        assert seen.card.mouth.frame * FRAME_S <= most
        assert seen.at - mouths[0].at <= most


@pytest.mark.slow
async def test_interrupted_while_the_voice_is_at_work() -> None:
    """The text is minutes long, so that most of it is still to be synthesised; then again, ever sooner."""
    async with inference_server() as server, orchestrator([server]) as house:
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            await house.idle_cached(call)
            marks, heard = [], []
            for after_s in (1.0, 0.4, 0.3, 0.2, 0.1, 0.0):
                marks.append(sent(phone.recording))
                answer = await house.api.post(f"/v1/calls/{call}/say", json={"text": TEXT})
                heard.append(await interrupted(house, call, answer.json()["turn_id"], after_s))
                await asyncio.sleep(0.4)
            marks.append(sent(phone.recording))
        mouths = [seen for seen in watch(phone.recording) if seen.card.mouth is not None]
        packets = phone.recording.audio.ordered()
    assert mouths
    for start, end, seconds in zip(marks, marks[1:], heard, strict=False):
        turn = [p for p in packets if start <= (p.timestamp - packets[0].timestamp) / RATE < end]
        pictures = [seen for seen in mouths if start <= seen.at < end]
        assert_shut_within_two_frames(pictures, seconds, lateness(turn))
        assert sum(p.payload not in QUIET for p in turn) * 0.02 <= seconds + 0.021


@pytest.mark.slow
async def test_interrupted_while_sound_is_arriving() -> None:
    """The sender is let go on to its end, nothing of the rest is heard, and the next turn is."""
    async with inference_server() as server, orchestrator([server]) as house:
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            sound = tone(2.4)
            pieces = [(0.02, sound[at : at + 320]) for at in range(0, len(sound), 320)]
            sending = asyncio.create_task(house.play(call, pieces))
            async with asyncio.timeout(30):
                while not (await house.call(call))["turns"]:
                    await asyncio.sleep(0.005)
            heard = await interrupted(house, call, 1, 0.3)
            async with asyncio.timeout(60):
                assert await sending == 1
            middle = sent(phone.recording)
            turn = await house.play(call, [(0.0, tone(0.5))])
            assert (await house.turn(call, turn))["state"] == "finished"
            await asyncio.sleep(0.3)
        mouths = [seen for seen in watch(phone.recording) if seen.card.mouth is not None]
        spoken = loud(phone.recording) / RATE
        late = lateness(phone.recording.audio.ordered())
    assert_shut_within_two_frames([seen for seen in mouths if seen.at < middle], heard, late)
    first = spoken[spoken < middle]
    assert not len(first) or first[-1] - first[0] <= heard + 0.021
    assert len(spoken[spoken >= middle]) > 0.4 * RATE
    assert any(seen.at >= middle for seen in mouths)
