"""Conversations measured at the phone's end, over PCMU: how soon it answers and falls silent, and what fools it.

``python -m bench.conversation latency|interrupt|backchannels|echo|many [--turns 20] [--seconds 600] [--calls 10]``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import statistics
import time
from collections.abc import AsyncIterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bench.conversation.sound import Heard, first_sound, last_word, quieter, silent
from testing.processes import gauge
from tests.support.house import House, orchestrator
from tests.support.servers import running_server
from tests.support.speech import speech
from tests.support.talk import Talk, calling
from visavis import portraits

CLOSED = (
    "When are you open?",
    "What can you do?",
    "Where are you?",
    "Are you human?",
    "How much does it cost?",
    "Please tell me when you are open.",
)
OPEN = ("I would like to know when you are open and", "Please tell me where you are in the")
DIGITS = ("0 7 9 1 5 5", "4 4 2 1 7")
CUT_IN = "No, wait, I want something else."
NOISES = ("Mhm.", "Yeah.", "Okay.", "Right.", "Uh-huh.", "I see.", "Sure.", "Great.")
LONG = (
    "I will now tell you a long story about the sea and the people who live beside it. "
    "They get up early in the morning and look at the sky before they do anything else. "
    "When the wind comes from the west they stay at home and mend their nets. "
    "When it comes from the east they go out in small boats and come back in the evening. "
)
RATE = 8000


@contextlib.asynccontextmanager
async def house(engine: str) -> AsyncIterator[House]:
    """Both services, with the scripted assistant."""
    async with (
        running_server(engine=engine) as server,
        orchestrator(
            [server.address], portrait=portraits.DEFAULT.read_bytes(), assistant="scripted", greeting="Hello."
        ) as running,
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
    answers = len(talk.all("latency"))
    pcm = speech(text, RATE)
    talk.say(text)
    answer = await talk.of("latency", answers + 1)
    await talk.of("reply", turn_id=answer["turn_id"])
    ended = talk.phone.microphone.began[-1] + last_word(pcm, RATE)
    await listening(talk)
    return (first_sound(talk.phone.recording, ended) - ended) * 1000


async def latency(options: argparse.Namespace) -> None:
    """Closed utterances, open ones, and digits after a question for a number."""
    async with house(options.engine) as running, calling(running) as talk:
        await listening(talk)
        await ask(talk, CLOSED[0])
        for name, texts in (("closed", CLOSED), ("open", OPEN)):
            report(name, [await ask(talk, texts[turn % len(texts)]) for turn in range(options.turns)])
        steps = talk.all("latency")
        for step in ("words_ms", "end_of_turn_ms", "assistant_ms", "voice_ms", "lips_ms"):
            print(f"  {step:<16} median {statistics.median(each[step] for each in steps):5.0f} ms")
        await ask(talk, "Call me back.")
        await ask(talk, "My name is Anna.")
        report("digits", [await ask(talk, DIGITS[0])])


async def told(talk: Talk) -> tuple[int, Heard]:
    """Have the long text begun; its turn, and what is heard of it from its first sound on."""
    since = time.monotonic()
    answer = await talk.house.api.post(f"/v1/calls/{talk.call}/say", json={"text": LONG})
    turn = int(answer.json()["turn_id"])
    await talk.of("turn_started", turn_id=turn)
    await asyncio.sleep(1.0)
    return turn, Heard(talk.phone.recording, first_sound(talk.phone.recording, since))


async def interrupt(options: argparse.Namespace) -> None:
    """A caller cuts in: from the first packet of speech to a ducked voice, to silence."""
    ducked, still, failed = list[float](), list[float](), 0
    async with house(options.engine) as running, calling(running) as talk:
        await listening(talk)
        turn, whole = await told(talk)
        await talk.of("turn_finished", turn_id=turn)
        reference = whole.samples()
        for _ in range(options.turns):
            turn, heard = await told(talk)
            talk.say(CUT_IN)
            await asyncio.sleep(2.0)
            began = talk.phone.microphone.began[-1]
            at = quieter(heard, reference, began), silent(heard, began)
            failed += not talk.all("turn_interrupted", turn_id=turn)
            ducked.append((at[0] - began) * 1000)
            still.append((at[1] - began) * 1000)
            await asyncio.sleep(1.0)
            await listening(talk)
    report("ducked", ducked)
    report("silent", still)
    print(f"not interrupted: {failed} of {options.turns}")


async def backchannels(options: argparse.Namespace) -> None:
    """Listening noises while the voice speaks: how many end its turn, and the longest silence of the others."""
    ended, gaps = 0, list[float]()
    async with house(options.engine) as running, calling(running) as talk:
        await listening(talk)
        for number in range(options.turns):
            turn, heard = await told(talk)
            talk.say(NOISES[number % len(NOISES)])
            await asyncio.sleep(2.5)
            if talk.all("turn_interrupted", turn_id=turn):
                ended += 1
            else:
                gaps.append(heard.longest_silence(talk.phone.microphone.began[-1]) * 1000)
                await running.api.post(f"/v1/calls/{talk.call}/interrupt")
            await asyncio.sleep(0.5)
            await listening(talk)
    print(f"turns that ended: {ended} of {options.turns}")
    report("longest pause of the others", gaps)


async def echo(options: argparse.Namespace) -> None:
    """A speakerphone's echo at -8 dB while the voice speaks on: turns that end by it."""
    async with house(options.engine) as running:
        for delay_ms in (60, 120, 200, 300):
            async with calling(running) as talk:
                await listening(talk)
                talk.phone.microphone.use_speakerphone(delay_ms, -8.0)
                until, turns = time.monotonic() + options.seconds / 4, list[int]()
                while time.monotonic() < until:
                    turn, _ = await told(talk)
                    turns.append(turn)
                    await running.turn(talk.call, turn)
                cut = sum(bool(talk.all("turn_interrupted", turn_id=turn)) for turn in turns)
                began = len(talk.all("speech_started"))
                print(
                    f"{delay_ms} ms: {cut} of {len(turns)} turns interrupted, speech heard {began} times, "
                    f"answered {len(talk.all('transcript', final=True))} times"
                )


async def many(options: argparse.Namespace) -> None:
    """Conversing calls side by side: latency of each turn, lateness of the media clock."""
    async with house(options.engine) as running, contextlib.AsyncExitStack() as stack:
        talks = [await stack.enter_async_context(calling(running)) for _ in range(options.calls)]
        for talk in talks:
            await listening(talk)

        async def hold(talk: Talk, number: int) -> list[float]:
            await asyncio.sleep(0.7 * number)
            return [await ask(talk, CLOSED[(turn + number) % len(CLOSED)]) for turn in range(options.turns)]

        late = list[float]()
        talkers = [asyncio.create_task(hold(talk, number)) for number, talk in enumerate(talks)]
        while not all(each.done() for each in talkers):
            late.append(1000 * await gauge(running.api, "visavis_media_lateness_p99_seconds"))
            await asyncio.sleep(1.0)
        report(f"{options.calls} calls", [ms for each in talkers for ms in each.result()])
        report("media clock p99 of each second", late)


def report(name: str, values: Sequence[float] | NDArray[np.float64]) -> None:
    """Median, 95th percentile and worst."""
    if len(values):
        ordered = sorted(values)
        p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
        print(
            f"{name:<28} median {statistics.median(ordered):5.0f} ms, p95 {p95:5.0f}, worst {ordered[-1]:5.0f}"
            f" ({len(ordered)})",
            flush=True,
        )


WHAT = {
    "latency": latency,
    "interrupt": interrupt,
    "backchannels": backchannels,
    "echo": echo,
    "many": many,
}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("--engine", default="portrait")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=600.0, help="of echo")
    parser.add_argument("--calls", type=int, default=10)
    options = parser.parse_args()
    for text in (*CLOSED, *OPEN, *DIGITS, CUT_IN, *NOISES, "Call me back.", "My name is Anna."):
        speech(text, RATE)
    asyncio.run(WHAT[options.what](options))


if __name__ == "__main__":
    main()
