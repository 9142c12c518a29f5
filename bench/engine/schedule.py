"""The scheduler's promises on a simulated engine, in simulated time.

    python -m bench.engine.schedule [--minutes 10]

Costs per bucket: of one row those measured on an H200 (docs/musetalk.md), of more rows what the networks took
there one by one, which is pessimistic; "fast" is a device that nobody has measured, for many callers at once. All
the rest is the server's own code (:mod:`bench.engine.world`). Callers' ticks are all at the same moment; speech
comes at twice its speed in chunks of 200 ms, and is heard from the tick that the client's own start delay names.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from bench.engine.world import WIRE_S, World
from inference_server.streams.admission import SLOT_FPS
from inference_server.streams.responses import FrameReady, Response, TurnRejected
from visavis.client.start_delay import StartDelay
from visavis.frames import frame_start

COSTS = {
    "sd-vae": {rows: 3.4 + 9.5 * rows for rows in (1, 2, 4, 8, 16)},
    "taesd": {rows: 2.3 + 4.0 * rows for rows in (1, 2, 4, 8, 16)},
    "fast": {rows: 0.9 + 0.7 * rows for rows in (1, 2, 4, 8, 16)},
}
CHUNK_S = 0.2
RETRY_S = 1.0
SPEECH_S = 4.0  # of a turn, on the mean
Request = Callable[[float], None]  # to the session, with its time of arrival


@dataclass
class Tally:
    """What all callers saw."""

    shown: int = 0
    late: int = 0
    turns: int = 0
    refused: int = 0
    firsts: list[float] = field(default_factory=list)

    @property
    def late_share(self) -> float:
        return self.late / max(self.shown, 1)


class Caller:
    """Speaks for ``speech_s`` on the mean, pauses for ``pause_s``, and asks again after a refusal."""

    def __init__(
        self, world: World, number: int, tally: Tally, speech_s: float, pause_s: float, begin: float
    ) -> None:
        self._world, self._tally = world, tally
        self._random = random.Random(number)
        self._speech_s, self._pause_s = speech_s, pause_s
        self._session = world.session(str(number), self._told)
        self._delay = StartDelay(world.fps)
        self._tick_s = float(1 / world.fps)
        self._turn = 0
        self._frames = 0
        self._came: dict[int, float] = {}
        self._began = self._start = 0.0
        self._refused = False
        world.at(begin, self._speak)

    def _speak(self) -> None:
        self._turn += 1
        self._frames = max(10, round(self._random.expovariate(1 / self._speech_s) / self._tick_s))
        self._came, self._began, self._refused = {}, self._world.now, False
        turn = self._turn
        self._later(0, lambda now: self._session.turn_start(turn, 0, 0, now))
        self._later(0, lambda now: self._session.anchor(turn, 0, 0, 0, now))
        samples = frame_start(self._frames, self._world.fps)
        for n, at in enumerate(range(0, samples, int(CHUNK_S * 16_000))):
            pcm = bytes(2 * min(int(CHUNK_S * 16_000), samples - at))
            self._later(n * CHUNK_S / 2, self._audio(turn, at, pcm))
        self._later(samples / 32_000, self._end(turn))
        heard = self._began + self._delay.seconds
        self._start = self._tick_s * (int(heard / self._tick_s) + 1)
        for k in range(self._frames):
            self._world.at(self._start + k * self._tick_s, self._tick(turn, k))
        self._world.at(self._start + self._frames * self._tick_s, lambda: self._finish(turn))

    def _audio(self, turn: int, at: int, pcm: bytes) -> Request:
        return lambda now: self._session.audio(turn, 0, at, pcm, now)

    def _end(self, turn: int) -> Request:
        return lambda now: self._session.end_of_turn(turn, 0, now)

    def _tick(self, turn: int, k: int) -> Callable[[], None]:
        def tick() -> None:
            if self._refused or turn != self._turn:
                return
            self._tally.shown += 1
            self._tally.late += self._came.get(k, 1e9) > self._world.now
            self._later(
                0, lambda now: self._session.playhead(turn, 0, frame_start(k, self._world.fps), True, now)
            )

        return tick

    def _later(self, after: float, what: Request) -> None:
        def arrive() -> None:
            what(self._world.now)
            self._world.renderer.touch(self._session)

        self._world.at(self._world.now + after + WIRE_S, arrive)

    def _told(self, response: Response) -> None:
        now = self._world.now
        if isinstance(response, TurnRejected):
            self._refused = True
            self._tally.refused += 1
            self._world.at(now + RETRY_S, self._speak)
        elif isinstance(response, FrameReady) and response.turn_id == self._turn:
            if not self._came:
                self._tally.firsts.append(now - self._began)
                self._delay.observe(now - self._began)
            self._came.setdefault(response.number, now)

    def _finish(self, turn: int) -> None:
        if self._refused or turn != self._turn:
            return
        self._tally.turns += 1
        pause = self._random.expovariate(1 / self._pause_s) if self._pause_s else 0.2
        self._world.at(self._world.now + max(0.2, pause), self._speak)


def idle(costs: Mapping[int, float], turns: int = 40) -> Tally:
    """One caller, a turn every few seconds: nothing else to do."""
    world, tally = World(costs), Tally()
    Caller(world, 1, tally, 2.0, 1.0, 0.013)
    world.run(turns * 3.2)
    return tally


def busy(
    costs: Mapping[int, float],
    seconds: float,
    *,
    fps: int = 25,
    duty: float = 1.0,
    step_ms: float = 0.0,
    over: int = 0,
) -> tuple[Tally, Tally, World]:
    """As many callers as make 75 % load, each speaking ``duty`` of the time, and ``over`` more that ask for a turn
    all the time; with ``step_ms`` an avatar is prepared all the while. Returns callers, those beyond, world."""
    world = World(costs, Fraction(fps), step_ms=step_ms, steps=10**9 if step_ms else 0)
    inside, beyond = Tally(), Tally()
    count = max(1, int(world.slots.total * SLOT_FPS / fps / duty))
    if duty < 1:  # 75 % is the mean then: at times all that the device can do is asked for
        world.slots.total = round(world.slots.total / 0.75)
    for number in range(count):
        Caller(world, number, inside, SPEECH_S, SPEECH_S * (1 / duty - 1), 0.3 + 0.171 * number)
    for number in range(over):
        Caller(world, 10_000 + number, beyond, SPEECH_S, 0.0, 0.3 + 0.171 * count + 0.1 * number)
    world.run(seconds)
    return inside, beyond, world


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="simulated, of the run at half duty")
    options = parser.parse_args()
    began = time.monotonic()
    for name, costs in COSTS.items():
        told = ", ".join(f"{rows}: {ms:.1f}" for rows, ms in costs.items())
        print(f"{name}, simulated; milliseconds a batch: {told}")
        firsts = [1000 * s for s in idle(costs).firsts]
        print(f"  idle: audio there to first frame {np.median(firsts):.1f} ms, worst {max(firsts):.1f} ms")
        for fps in (25, 30, 40, 50):
            _print(f"all slots speaking at {fps} fps", *busy(costs, 60.0, fps=fps))
        _print("and one caller too many", *busy(costs, 60.0, over=1))
        _print("and an avatar in preparation, steps of 10 ms", *busy(costs, 60.0, step_ms=10.0))
        _print(f"half duty, {options.minutes:g} minutes", *busy(costs, 60.0 * options.minutes, duty=0.5))
    print(f"in {time.monotonic() - began:.0f} s")
    return 0


def _print(what: str, inside: Tally, beyond: Tally, world: World) -> None:
    firsts = np.percentile(inside.firsts, [50, 95]) * 1000
    print(
        f"  {what}: {world.slots.total} slots, device busy {world.device.load:.0%}; {len(inside.firsts)} turns, "
        f"first frame p50 {firsts[0]:.1f} p95 {firsts[1]:.1f} ms; {inside.late} of {inside.shown} frames late "
        f"({inside.late_share:.3%}); refused: {inside.refused} of them, {beyond.refused} beyond"
        + (f"; {world.device.steps_done} steps of preparation" if world.device.steps_done else "")
    )


if __name__ == "__main__":
    raise SystemExit(main())
