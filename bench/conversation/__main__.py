"""Conversations measured at the phone's end: how soon it answers and falls silent, and what fools it.

``python -m bench.conversation latency|llm|interrupt|backchannels [--turns 20] [--codec opus]``
``python -m bench.conversation echo [--minutes 10] [--cuts 20]``, PCMU
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Iterator

from bench.conversation.sound import first_sound, last_word, quieter, silent
from bench.conversation.talks import CLOSED, CUT_IN, STORY, ask, cut_off, house, listening, report, told
from tests.assistants.fake_service import Answer, event, fake_service
from tests.support.speech import speech
from tests.support.talk import RATES, Talk, calling

OPEN = ("I would like to know when you are open and", "Please tell me where you are in the")
DIGITS = ("0 7 9 1 5 5", "4 4 2 1 7")
NOISES = ("Mhm.", "Yeah.", "Okay.", "Right.", "Uh-huh.", "I see.", "Sure.", "Great.")
SENTENCE = (
    "I will now tell you a long story about the sea and about the people who live beside it and who get up early "
    "every morning to look at the sky before they do anything else."
)
NAMES = ("Anna", "Peter", "Maria", "Thomas", "Laura", "Simon", "Helen", "Martin")
FIRST = [(word, f", {name}", ".") for word in ("Gladly", "Yes", "Certainly", "Sure") for name in NAMES]
REST = (" We", " are", " open", " from", " nine", " to", " six", " on", " every", " day", ".")
FIRST_TOKEN_S = 0.3
DELAYS_MS = (60, 120, 200, 300)
ECHO_DB = -8.0
_STEPS = ("words_ms", "end_of_turn_ms", "assistant_ms", "voice_ms", "lips_ms")


def steps(talk: Talk) -> None:
    """What each step of the turns so far took, by the orchestrator's own clock."""
    told_steps = talk.all("latency")
    for step in _STEPS:
        print(f"  {step:<16} median {statistics.median(each[step] for each in told_steps):5.0f} ms")


async def latency(options: argparse.Namespace) -> None:
    """Closed utterances, open ones, and digits after a question for a number."""
    async with house(options.engine) as running, calling(running, options.codec) as talk:
        await listening(talk)
        await ask(talk, CLOSED[0])
        for name, texts, goal in (("closed", CLOSED, "median 500, p95 700"), ("open", OPEN, "")):
            report(name, [await ask(talk, texts[turn % len(texts)]) for turn in range(options.turns)], goal)
        steps(talk)
        await ask(talk, "Call me back.")
        await ask(talk, "My name is Anna.")
        report("digits", [await ask(talk, DIGITS[0])])


def tokens(*words: str) -> Iterator[str | float]:
    """As a service writes them, one every 20 ms."""
    for word in words:
        yield event({"choices": [{"delta": {"content": word}}]})
        yield 0.02


async def llm(options: argparse.Namespace) -> None:
    """Closed utterances, answered by a service that takes 300 ms to its first token, each time otherwise."""
    answers = [Answer([FIRST_TOKEN_S, *tokens(*first, *REST), event("[DONE]")]) for first in FIRST]
    async with (
        fake_service(*answers) as service,
        house(
            options.engine, assistant="openai", assistant_url=service.url, assistant_model="test"
        ) as running,
        calling(running, options.codec) as talk,
    ):
        await listening(talk)
        await ask(talk, CLOSED[0])
        took = [await ask(talk, CLOSED[turn % len(CLOSED)]) for turn in range(options.turns)]
        report("300 ms to the first token", took, "median 750")
        steps(talk)


async def interrupt(options: argparse.Namespace) -> None:
    """A caller cuts in: from the first packet of speech to a ducked voice, to silence."""
    ducked, still, failed = list[float](), list[float](), 0
    async with house(options.engine) as running, calling(running, options.codec) as talk:
        await listening(talk)
        turn, whole = await told(talk, STORY)
        await talk.of("turn_finished", turn_id=turn)
        reference = whole.samples()
        for _ in range(options.turns):
            turn, heard = await told(talk, STORY)
            talk.say(CUT_IN)
            await asyncio.sleep(2.0)
            began = talk.phone.microphone.began[-1]
            at = quieter(heard, reference, began), silent(heard, began)
            failed += not talk.all("turn_interrupted", turn_id=turn)
            ducked.append((at[0] - began) * 1000)
            still.append((at[1] - began) * 1000)
            await asyncio.sleep(1.0)
            await listening(talk)
    report("ducked", ducked, "median 180")
    report("silent", still, "median 330")
    print(f"not interrupted: {failed} of {options.turns}")


async def backchannels(options: argparse.Namespace) -> None:
    """Listening noises while the voice speaks: how many end its turn, and when it is back after the others."""
    ended, gaps, back = 0, list[float](), list[float]()
    async with house(options.engine) as running, calling(running, options.codec) as talk:
        await listening(talk)
        turn, whole = await told(talk, SENTENCE)
        await talk.of("turn_finished", turn_id=turn)
        usual = whole.longest_silence(whole.since)
        for number in range(options.turns):
            turn, heard = await told(talk, SENTENCE)
            noise = NOISES[number % len(NOISES)]
            talk.say(noise)
            await asyncio.sleep(3.0)
            began = talk.phone.microphone.began[-1]
            over = began + last_word(speech(noise, talk.phone.recording.rate), talk.phone.recording.rate)
            longest, again = heard.longest_silence(began), first_sound(talk.phone.recording, over)
            if await cut_off(talk, turn):
                ended += 1
            else:
                gaps.append(longest * 1000)
                back.append((again - over) * 1000)
    print(f"turns that ended: {ended} of {options.turns}; goal: at most 10 %")
    report("back after the noise", back, "300")
    report("longest pause of the others", gaps, f"{1000 * usual:.0f} ms where nobody speaks")


async def echo(options: argparse.Namespace) -> None:
    """A speakerphone's echo while the voice speaks on: turns that end by it, and by callers who cut in over it."""
    false, turns, heard, cuts = 0, 0, 0, 0
    async with house(options.engine) as running:
        for number, delay_ms in enumerate(DELAYS_MS):
            async with calling(running) as talk:
                await listening(talk)
                talk.phone.microphone.use_speakerphone(delay_ms, ECHO_DB)
                until, told_turns = time.monotonic() + 60 * options.minutes / len(DELAYS_MS), list[int]()
                while time.monotonic() < until:
                    turn, _ = await told(talk, STORY)
                    told_turns.append(turn)
                    await running.turn(talk.call, turn)
                cut = sum(bool(talk.all("turn_interrupted", turn_id=turn)) for turn in told_turns)
                began = len(talk.all("speech_started"))
                real = len(range(number, options.cuts, len(DELAYS_MS)))
                hits = 0
                for _ in range(real):
                    turn, _ = await told(talk, STORY)
                    talk.say(CUT_IN)
                    await asyncio.sleep(2.5)
                    hits += await cut_off(talk, turn)
                print(
                    f"{delay_ms} ms: {cut} of {len(told_turns)} turns interrupted by the echo, heard as speech"
                    f" {began} times; {hits} of {real} callers interrupted",
                    flush=True,
                )
                false, turns, heard, cuts = false + cut, turns + len(told_turns), heard + hits, cuts + real
    print(f"{options.minutes:g} minutes of echo at {ECHO_DB:g} dB: {false} false interruptions; goal: 0")
    print(f"real ones: {heard} of {cuts}; goal: all")


WHAT = {"latency": latency, "llm": llm, "interrupt": interrupt, "backchannels": backchannels, "echo": echo}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--engine", default="portrait")
    parser.add_argument("--codec", choices=RATES, default="PCMU")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=10.0, help="of echo")
    parser.add_argument("--cuts", type=int, default=20, help="callers who interrupt over it")
    options = parser.parse_args()
    for text in (*CLOSED, *OPEN, *DIGITS, CUT_IN, *NOISES, "Call me back.", "My name is Anna."):
        speech(text, RATES[options.codec])
    asyncio.run(WHAT[options.what](options))


if __name__ == "__main__":
    main()
