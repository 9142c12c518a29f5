"""What callers of voice agents complain of most, each as it must not happen here.

That an interruption fades is in ``tests/playout/test_give_way.py``; echoes of a room are in ``tests/listening``.
"""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.assistants.base import Message
from orchestrator.listening.messages import SpeechBegan
from orchestrator.worker.messages import GiveWay, InterruptTurns
from tests.conversation.test_conversation import LETTER_MS, Talk
from tests.support.waiting import until

LONG = "One two three four five six seven eight nine ten eleven twelve."


async def speaking(talk: Talk, number: int = 1) -> None:
    talk.ears.say("Count for me.")
    await talk.turn(number)


async def test_the_agent_does_not_interrupt_itself_by_its_echo() -> None:
    talk = Talk([LONG])
    await speaking(talk)
    await asyncio.sleep(0.2)
    for _ in range(20):
        talk.ears.say("Three four five six.")
    assert not talk.sent(InterruptTurns) and len(talk.dialogue.asked) == 1
    assert talk.sent(GiveWay)[-1].how == "none"
    talk.conversation.close()


@pytest.mark.parametrize("noise", ["Mhm.", "Yeah.", "Okay.", "Right.", "I see.", "", "Uh-huh, great."])
async def test_a_listening_noise_does_not_stop_the_agent_for_good(noise: str) -> None:
    talk = Talk([LONG])
    await speaking(talk)
    talk.ears.say(noise)
    assert [each.how for each in talk.sent(GiveWay)] == ["duck", "none"]
    assert not talk.sent(InterruptTurns) and talk.conversation.state == "speaking"
    talk.conversation.close()


async def test_the_agent_can_be_interrupted_before_a_word_is_recognised() -> None:
    talk = Talk([LONG])
    await speaking(talk)
    talk.ears.on_speech(SpeechBegan("c1", False))
    await until(lambda: bool(talk.sent(InterruptTurns)))
    assert [each.how for each in talk.sent(GiveWay)] == ["duck", "hold"]
    assert talk.conversation.state == "listening"
    talk.conversation.close()


@pytest.mark.parametrize("said", ["zero seven nine one", "a n n a", "oh 7 7"])
async def test_nobody_is_cut_off_while_dictating(said: str) -> None:
    talk = Talk(["Which number?"], ["Never said."], ["Thank you."])
    await speaking(talk)
    talk.over(1)
    talk.ears.say(f"{said}.", quiet_ms=700)
    await asyncio.sleep(0.2)
    assert talk.dialogue.accepted == 1  # a sentence like any other would have its answer
    talk.ears.say(f"{said} four five six.", quiet_ms=1300)
    await talk.turn(2)
    assert talk.dialogue.asked[-1][1].endswith("four five six.")
    talk.conversation.close()


async def test_each_answer_says_where_its_time_went() -> None:
    talk = Talk(["We are open."])
    async with talk.bus.listen() as events:
        talk.ears.say("When are you open?")
        await talk.turn(1)
        while (event := await events.get()).kind != "latency":
            pass
    steps = ("end_of_turn_ms", "assistant_ms", "voice_ms", "lips_ms")
    assert event.data["total_ms"] == pytest.approx(sum(event.data[step] for step in steps), abs=4)
    talk.conversation.close()


async def test_many_interruptions_in_a_row_are_each_answered() -> None:
    talk = Talk(*[[f"{LONG} Number {number}."] for number in range(20)])
    for number in range(1, 21):
        talk.ears.say(f"No, tell me number {number} instead.")
        if number > 1:
            talk.over(number - 1, 5 * LETTER_MS)
        await talk.turn(number)
        assert talk.conversation.state == "speaking"
    assert talk.dialogue.accepted == 20 and len(talk.sent(InterruptTurns)) == 19
    talk.conversation.close()


async def test_what_was_never_spoken_is_not_remembered() -> None:
    talk = Talk([LONG], ["Yes?"])
    await speaking(talk)
    talk.ears.say("No, stop that now.")
    talk.over(1, 10 * LETTER_MS)
    await talk.turn(2)
    history, _ = talk.dialogue.asked[1]
    assert history[-1] in (Message("assistant", "One two"), Message("assistant", "One two three"))
    assert all("twelve" not in each.text for each in talk.entries)
    talk.conversation.close()
