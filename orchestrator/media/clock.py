"""One clock for all calls of a process: 5 ms slots, audio before video, late without a burst."""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial

from visavis.service.logs import Log

log = Log(__name__)

SLOT_SECONDS = 0.005
CATCH_UP_SECONDS = 0.2
"""Up to this delay every packet is still sent, one a slot; beyond it the packets missed are skipped."""
AUDIO, VIDEO, OTHER = range(3)
_LANES = 3
_SPREAD = 8
_CROWD = 24
LONGEST_SLEEP = 4

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
        index = int(seconds * 4000.0)
        self._bins[index if 0 <= index < 1000 else 0 if index < 0 else 1000] += 1
        self.count += 1

    def merge(self, other: Lateness) -> None:
        """Add another histogram's counts."""
        self._bins = [mine + theirs for mine, theirs in zip(self._bins, other._bins, strict=True)]
        self.count += other.count
        self.worst = max(self.worst, other.worst)

    def quantile(self, share: float) -> float:
        """Upper edge in seconds of the bin that holds the quantile; 0 when empty."""
        wanted, seen = share * self.count, 0
        for index, number in enumerate(self._bins):
            seen += number
            if number and seen >= wanted:
                return (index + 1) * self._STEP
        return 0.0


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
        self.alert_until = float("-inf")
        """Up to this time every slot counts as busy, for what may come in to be answered soon."""
        self.afterwards: list[Callable[[], None]] = []
        """Called once, when everything that is due has been sent."""

    def time_of(self, slot: int) -> float:
        """Monotonic seconds at which a slot is due."""
        return self.origin + slot * SLOT_SECONDS

    def slot_at(self, moment: float) -> int:
        """The first slot not before ``moment``."""
        return math.ceil((moment - self.origin) / SLOT_SECONDS - 1e-6)

    def add(self, lane: int, slot: int, job: Job) -> None:
        """Run ``job`` in a slot to come (the next one at the earliest)."""
        self._wheels[lane][max(slot, self.slot + 1)].append(job)

    def join(self, earliest: int = 0) -> int:
        """The slot at which a new call starts, among the next eight.

        Calls share slots while these have room, since waking up costs more than a packet; then they spread.
        """
        first = max(self.slot + 1, earliest)

        def crowd(slot: int) -> tuple[bool, int, int]:
            phase = slot % _SPREAD
            # Audio comes every four slots: two phases share its slots.
            audio = self._phases[phase] + self._phases[(phase + _SPREAD // 2) % _SPREAD]
            return audio >= _CROWD, audio if audio >= _CROWD else -audio, self._phases[phase]

        slot = min(range(first, first + _SPREAD), key=crowd)
        self._phases[slot % _SPREAD] += 1
        return slot

    def next_busy(self) -> int:
        """The next slot that has work, at most ``LONGEST_SLEEP`` slots ahead."""
        audio, video, other = self._wheels
        if self.time_of(self.slot + 1) < self.alert_until:
            return self.slot + 1
        for slot in range(self.slot + 1, self.slot + LONGEST_SLEEP):
            if slot in audio or slot in video or slot in other:
                return slot
        return self.slot + LONGEST_SLEEP

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
                    log.exception("media_job_dropped", job=repr(job))
                    continue
                if following is not None:
                    wheel[following if following > slot else slot + 1].append(job)
        if self.afterwards:
            calls, self.afterwards = self.afterwards, []
            for call in calls:
                try:
                    call()
                except Exception:
                    self.failures += 1
                    log.exception("media_work_failed")


class MediaClock:
    """Drives a ``SlotWheel`` in real time with one task."""

    def __init__(self) -> None:
        self.wheel = SlotWheel(time.monotonic())
        self.recent = Lateness()
        """Of audio packets, since the host last took it away."""
        self.total = Lateness()
        """Of audio packets, over the clock's life up to the last time that was taken away."""
        self.video = Lateness()
        """Of live pictures, from due to the last packet sent, since the host last took it away."""
        self.total_video = Lateness()
        self.every_slot: list[Callable[[float], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next = 0
        self._posted: deque[Callable[[], None]] = deque()
        self._posting = False
        # Pairs Unix with monotonic time once, so that a stepped wall clock never moves the media.
        self._unix = time.time() - time.monotonic()

    def unix(self, moment: float) -> float:
        """Unix seconds of a monotonic moment."""
        return moment + self._unix

    def start(self) -> None:
        """Begin to tick in the running loop."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self.wheel.slot = self._slot(time.monotonic())
            self._wake()

    def stop(self) -> None:
        """Stop ticking."""
        if self._timer is not None:
            self._timer.cancel()
        self._loop = self._timer = None

    def post(self, work: Callable[[], None]) -> None:
        """Run ``work`` on the clock's loop between two slots; from any thread."""
        self._posted.append(work)
        loop = self._loop
        if self._posting or loop is None:
            return
        self._posting = True
        with contextlib.suppress(RuntimeError):  # the loop has just been closed
            loop.call_soon_threadsafe(self._run_posted)

    def _run_posted(self) -> None:
        self._posting = False
        while self._posted:
            work = self._posted.popleft()
            try:
                work()
            except Exception:
                self.wheel.failures += 1
                log.exception("media_work_failed")
        if self._timer is not None and self.wheel.next_busy() < self._next:
            self._timer.cancel()
            self._sleep()

    @property
    def coming_slot(self) -> int:
        """The slot that is due next."""
        return self._slot(time.monotonic()) + 1

    def join(self) -> int:
        """The slot at which a new call starts, not before the clock wakes up again."""
        return self.wheel.join(max(self.coming_slot, self._next))

    def _slot(self, now: float) -> int:
        return int((now - self.wheel.origin) / SLOT_SECONDS)

    def _wake(self) -> None:
        wheel = self.wheel
        if self._loop is None:
            return
        now = time.monotonic()
        current = self._slot(now)
        if current > wheel.slot:
            # What has come in the meantime is read before anything of it is handed on.
            wheel.afterwards[:0] = [partial(poll, now) for poll in self.every_slot]
            wheel.advance(current, time.monotonic)
        self._sleep()

    def _sleep(self) -> None:
        if self._loop is None:
            return
        self._next = self.wheel.next_busy()
        # Event loops count whole milliseconds: rounded up, so that it never wakes before the slot.
        pause = math.ceil((self.wheel.time_of(self._next) - time.monotonic()) * 1000) / 1000
        self._timer = self._loop.call_later(max(pause, 0.0), self._wake)
