"""One clock for all calls of a process: 5 ms slots, audio before video, late without a burst."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import defaultdict
from collections.abc import Callable

log = logging.getLogger(__name__)

SLOT_SECONDS = 0.005
CATCH_UP_SECONDS = 0.2
"""Up to this delay every packet is still sent, one a slot; beyond it the packets missed are skipped."""
AUDIO, VIDEO, OTHER = range(3)
_LANES = 3
_SPREAD = 8

Job = Callable[[int, float], int | None]
"""``job(slot, now)`` returns the slot it wants next, ``None`` when it is done."""


class Lateness:
    """Histogram of seconds, in steps of a quarter millisecond up to a quarter second."""

    _STEP = 0.00025

    def __init__(self) -> None:
        self._bins = [0] * 1001
        self.count = 0
        self.worst = 0.0

    def add(self, seconds: float) -> None:
        if seconds > self.worst:
            self.worst = seconds
        self._bins[min(max(int(seconds / self._STEP), 0), 1000)] += 1
        self.count += 1

    def quantile(self, share: float) -> float:
        """Upper edge in seconds of the bin that holds the quantile; 0 when empty."""
        wanted, seen = share * self.count, 0
        for index, number in enumerate(self._bins):
            seen += number
            if number and seen >= wanted:
                return (index + 1) * self._STEP
        return 0.0

    def reset(self) -> None:
        """Forget everything."""
        self._bins = [0] * 1001
        self.count, self.worst = 0, 0.0


class SlotWheel:
    """The schedule itself, without time: jobs by slot and lane. Slot ``s`` is due at ``origin + s * 5 ms``."""

    def __init__(self, origin: float) -> None:
        self.origin = origin
        self.slot = -1
        self.failures = 0
        self._wheels: tuple[defaultdict[int, list[Job]], ...] = tuple(
            defaultdict(list) for _ in range(_LANES)
        )
        self._phases = [0] * _SPREAD

    def time_of(self, slot: int) -> float:
        """Monotonic seconds at which a slot is due."""
        return self.origin + slot * SLOT_SECONDS

    def slot_at(self, moment: float) -> int:
        """The first slot not before ``moment``."""
        return math.ceil((moment - self.origin) / SLOT_SECONDS - 1e-6)

    def add(self, lane: int, slot: int, job: Job) -> None:
        """Run ``job`` in a slot to come (the next one at the earliest)."""
        self._wheels[lane][max(slot, self.slot + 1)].append(job)

    def join(self) -> int:
        """The slot at which a new call starts: among the next eight, where the fewest calls tick."""
        first = self.slot + 1
        slot = min(range(first, first + _SPREAD), key=lambda s: self._phases[s % _SPREAD])
        self._phases[slot % _SPREAD] += 1
        return slot

    def leave(self, start_slot: int) -> None:
        """A call that had joined at ``start_slot`` is over."""
        self._phases[start_slot % _SPREAD] -= 1

    def advance(self, slot: int, clock: Callable[[], float]) -> None:
        """Run everything due up to ``slot``, each job once; a lane is finished before the next begins."""
        if slot <= self.slot:
            return
        first, self.slot = self.slot + 1, slot
        for wheel in self._wheels:
            due = [job for missed in range(first, slot + 1) for job in wheel.pop(missed, ())]
            for job in due:
                try:
                    following = job(slot, clock())
                except Exception:
                    # One call's fault must not stop the others' clock.
                    self.failures += 1
                    log.exception("media job failed and was dropped", extra={"job": repr(job)})
                    continue
                if following is not None:
                    wheel[following if following > slot else slot + 1].append(job)


class MediaClock:
    """Drives a ``SlotWheel`` in real time with one task."""

    def __init__(self) -> None:
        self.wheel = SlotWheel(time.monotonic())
        self.recent = Lateness()
        """Of audio packets, since the host last took it away."""
        self.every_slot: list[Callable[[float], None]] = []
        self._task: asyncio.Task[None] | None = None
        # Pairs Unix with monotonic time once, so that a stepped wall clock never moves the media.
        self._unix = time.time() - time.monotonic()

    def unix(self, moment: float) -> float:
        """Unix seconds of a monotonic moment."""
        return moment + self._unix

    def start(self) -> None:
        """Begin to tick in the running loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._tick(), name="media clock")

    async def stop(self) -> None:
        """Stop ticking."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _tick(self) -> None:
        loop, wheel = asyncio.get_running_loop(), self.wheel
        wheel.slot = max(wheel.slot, int((time.monotonic() - wheel.origin) / SLOT_SECONDS))
        wake = asyncio.Event()
        while True:
            now = time.monotonic()
            current = int((now - wheel.origin) / SLOT_SECONDS)
            if current > wheel.slot:
                wheel.advance(current, time.monotonic)
                for poll in self.every_slot:
                    poll(now)
            wake.clear()
            loop.call_at(loop.time() + wheel.time_of(wheel.slot + 1) - time.monotonic(), wake.set)
            await wake.wait()
