"""Conversing calls side by side, beside as many that are only spoken to, in the same run, and one caller too many.

``python -m bench.conversation.many [--calls 10] [--seconds 60]``: voice and pictures as they come to the phones,
lateness of the media clock, latency of the answers, CPU of each process and memory of the listening process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bench.conversation.sound import LOUD, packets
from bench.conversation.talks import CLOSED, ask, house, listening, report
from testing.caller import Phone
from testing.processes import Process, family, gauge
from tests.support.house import House
from tests.support.speech import speech
from tests.support.talk import RATES, Talk, calling, pid_of

ANSWER = "We are open from nine to six, Monday to Friday. On Saturdays we close at noon."
BETWEEN_S = 3.0
LISTENING = "orchestrator.listening.process"
_NAMES = {
    "orchestrator.worker.worker": "media workers",
    LISTENING: "listening",
    "orchestrator.speech.process": "voices",
}


@dataclass
class Figures:
    """Of one phase."""

    since: float = field(default_factory=time.monotonic)
    latency: list[float] = field(default_factory=list)
    clock: list[float] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)


def cpu(running: House) -> dict[str, float]:
    """CPU seconds of each kind of process so far."""
    used = {"control": Process.read(running.process.pid).cpu_s}
    for pid in family(running.process.pid)[1:]:
        line = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
        for module, name in _NAMES.items():
            if module in line:
                used[name] = used.get(name, 0.0) + Process.read(pid).cpu_s
    return used


def proportional_mib(pid: int) -> float:
    """Memory of a process, shared pages by their share."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) / 1024


def jitter_ms(talks: list[Talk], since: float) -> np.ndarray:
    """How late each voice packet came after a steady 20 ms beat that the earliest ones set."""
    late = list[np.ndarray]()
    for talk in talks:
        found = [each for each in talk.phone.recording.audio.ordered() if each.arrived >= since]
        beat = np.array([each.timestamp for each in found]) / talk.phone.recording.rate
        behind = np.array([each.arrived for each in found]) - beat
        late.append((behind - behind.min()) * 1000)
    return np.concatenate(late)


def pictures(talks: list[Talk], since: float, seconds: float) -> float:
    """Pictures a second of a call."""
    markers = [each for talk in talks for each in talk.phone.recording.video.packets if each.marker]
    return sum(each.arrived >= since for each in markers) / seconds / len(talks)


async def lips(talks: list[Talk]) -> np.ndarray:
    """Pictures with the mouth of their moment, and ticks without, of all calls so far."""
    media = [(await talk.house.call(talk.call))["media"] for talk in talks]
    return np.array([sum(each.get(name, 0) for each in media) for name in ("frames_shown", "frames_late")])


async def only_spoken_to(talk: Talk, until: float, figures: Figures) -> None:
    """The same sentences at the same times, said over the API."""
    while time.monotonic() < until:
        answer = await talk.house.api.post(f"/v1/calls/{talk.call}/say", json={"text": ANSWER})
        await talk.house.turn(talk.call, int(answer.json()["turn_id"]))
        await asyncio.sleep(BETWEEN_S)


async def conversing(talk: Talk, until: float, figures: Figures) -> None:
    """Questions and answers."""
    while time.monotonic() < until:
        figures.latency.append(await ask(talk, CLOSED[0]))
        await asyncio.sleep(0.5)


async def phase(name: str, running: House, talks: list[Talk], seconds: float, conversation: bool) -> Figures:
    """Measure one, and print it."""
    figures, mouths, before = Figures(), await lips(talks), cpu(running)
    figures.since = time.monotonic()
    until = figures.since + seconds
    act = conversing if conversation else only_spoken_to

    async def hold(talk: Talk, number: int) -> None:
        await asyncio.sleep(0.7 * number)
        await act(talk, until, figures)

    tasks = [asyncio.create_task(hold(talk, number)) for number, talk in enumerate(talks)]
    while not all(each.done() for each in tasks):
        figures.clock.append(1000 * await gauge(running.api, "visavis_media_lateness_p99_seconds"))
        await asyncio.sleep(1.0)
    for task in tasks:
        task.result()
    took = time.monotonic() - figures.since
    figures.cpu = {each: 100 * (used - before.get(each, 0.0)) / took for each, used in cpu(running).items()}
    late, (shown, missed) = jitter_ms(talks, figures.since), await lips(talks) - mouths
    print(f"-- {name}, {took:.0f} s")
    print(f"voice off its beat: p50 {np.percentile(late, 50):.1f} ms, p99 {np.percentile(late, 99):.1f}")
    report("media clock, p99 of a second", figures.clock)
    rate = pictures(talks, figures.since, took)
    print(
        f"pictures: {rate:.1f} a second; of those that speak {100 * shown / max(1, shown + missed):.1f} % in time"
    )
    print(
        "CPU, % of a core: " + ", ".join(f"{each} {used:.1f}" for each, used in figures.cpu.items()),
        flush=True,
    )
    return figures


async def one_too_many(running: House, codec: str) -> None:
    """What the next caller hears."""
    async with Phone(running.uri, codec=codec) as phone:
        async with asyncio.timeout(30):
            await phone.hung_up.wait()
        heard = sum(bool(np.abs(pcm).max() > LOUD) for _, pcm in packets(phone.recording, 0.0)) * 0.02
    print(f"one caller more: answered, spoken to for {heard:.1f} s, then hung up on")


async def measure(count: int, seconds: float, codec: str, engine: str) -> None:
    """Both phases, and the caller who is too many."""
    async with (
        house(engine, max_conversations=count) as running,
        contextlib.AsyncExitStack() as stack,
    ):
        talks: list[Talk] = []
        for _ in range(count):
            talks.append(await stack.enter_async_context(calling(running, codec)))
            await listening(talks[-1])
        await one_too_many(running, codec)
        for talk in talks:
            await running.api.patch(f"/v1/calls/{talk.call}/assistant", json={"assistant": "none"})
        without = await phase(f"{count} calls without conversation", running, talks, seconds, False)
        for talk in talks:
            await running.api.patch(f"/v1/calls/{talk.call}/assistant", json={"assistant": "scripted"})
            await listening(talk)
        having = await phase(f"{count} conversing calls", running, talks, seconds, True)
        report("answers", having.latency)
        more = sum(having.cpu.values()) - sum(without.cpu.values())
        print(
            f"CPU of a conversation: {more / count:.1f} % of a core more than the call without it; goal: at most 6"
        )
        print(
            f"memory of the listening process: {proportional_mib(pid_of(running, LISTENING)):.0f} MiB; goal: 250 MB"
        )


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each phase")
    parser.add_argument("--codec", choices=RATES, default="PCMU")
    parser.add_argument("--engine", default="portrait")
    options = parser.parse_args()
    speech(CLOSED[0], RATES[options.codec])
    asyncio.run(measure(options.calls, options.seconds, options.codec, options.engine))


if __name__ == "__main__":
    main()
