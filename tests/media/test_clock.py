"""The media clock without time: when jobs run, and what a late clock does."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest

from orchestrator.media.clock import AUDIO, SLOT_SECONDS, VIDEO, Lateness, MediaClock, SlotWheel
from orchestrator.media.load import Load


class Every:
    """A job of every ``step`` slots from ``start`` on, that notes when it ran."""

    def __init__(self, start: int, step: int, log: list[tuple[str, int]], name: str = "") -> None:
        self.start, self.step, self.count, self.log, self.name = start, step, 0, log, name

    def __call__(self, slot: int, now: float) -> int:
        self.log.append((self.name, slot))
        self.count += 1
        return self.start + self.step * self.count


def run(wheel: SlotWheel, slots: list[int]) -> None:
    for slot in slots:
        wheel.advance(slot, lambda: wheel.time_of(wheel.slot))


def test_a_job_runs_at_its_slots_and_audio_before_video() -> None:
    wheel, log = SlotWheel(100.0), []
    wheel.add(VIDEO, 4, Every(4, 8, log, "video"))
    wheel.add(AUDIO, 4, Every(4, 4, log, "audio"))
    run(wheel, list(range(17)))
    assert log == [("audio", 4), ("video", 4), ("audio", 8), ("audio", 12), ("video", 12), ("audio", 16)]


def test_a_late_clock_catches_up_one_a_slot_and_never_drifts() -> None:
    wheel, log = SlotWheel(0.0), []
    wheel.add(AUDIO, 0, Every(0, 4, log))
    run(wheel, [0, 1, 2, 3, 4])
    # 80 ms of nothing: 5 packets are overdue at slot 24 and leave in slots 24 to 28, not at once.
    run(wheel, list(range(24, 48)))
    assert [slot for _, slot in log] == [0, 4, 24, 25, 26, 27, 28, 29, 32, 36, 40, 44]


def test_thirty_pictures_a_second_stay_on_their_instants() -> None:
    wheel = SlotWheel(7.0)
    fps = Fraction(30000, 1001)
    slots = [wheel.slot_at(7.0 + float(number / fps)) for number in range(30000)]
    late = [wheel.time_of(slot) - 7.0 - float(number / fps) for number, slot in enumerate(slots)]
    assert min(late) > -1e-7 and max(late) < SLOT_SECONDS
    assert wheel.slot_at(7.0 + 3 * SLOT_SECONDS) == 3


def test_a_failing_job_ends_alone() -> None:
    wheel, log = SlotWheel(0.0), []

    def fails(slot: int, now: float) -> int:
        raise RuntimeError("a fault")

    wheel.add(AUDIO, 1, fails)
    wheel.add(AUDIO, 1, Every(1, 1, log))
    wheel.afterwards.append(lambda: 1 // 0)
    run(wheel, [1, 2, 3])
    assert len(log) == 3 and wheel.failures == 2


async def test_what_has_come_is_read_after_everything_was_sent_and_before_it_is_handed_on() -> None:
    clock, log = MediaClock(), list[str]()
    done = asyncio.Event()

    def sends(slot: int, now: float) -> None:
        log.append("sent")
        clock.wheel.afterwards.append(lambda: (log.append("handed on"), done.set()))

    clock.every_slot.append(lambda now: log.append("read"))
    clock.start()
    log.clear()
    clock.wheel.add(AUDIO, clock.coming_slot + 1, sends)
    await done.wait()
    clock.stop()
    assert log[log.index("sent") :] == ["sent", "read", "handed on"]


def test_few_calls_share_a_slot_and_many_spread() -> None:
    wheel = SlotWheel(0.0)
    few = [wheel.join() for _ in range(10)]
    assert len({slot % 4 for slot in few}) == 1
    many = [wheel.join() for _ in range(390)]
    phases = [sum(slot % 8 == phase for slot in few + many) for phase in range(8)]
    assert max(phases) - min(phases) <= 2
    for slot in few + many:
        wheel.leave(slot)
    assert len({wheel.join() % 4 for _ in range(5)}) == 1


def test_the_clock_sleeps_over_empty_slots_only() -> None:
    wheel = SlotWheel(0.0)
    assert wheel.next_busy() == 3  # inbound packets are looked for every 20 ms at least
    wheel.add(VIDEO, 1, Every(1, 9, []))
    assert wheel.next_busy() == 1


async def test_work_posted_by_a_thread_wakes_the_clock_for_the_slot_that_it_wants() -> None:
    clock, ran = MediaClock(), asyncio.Event()
    slots: list[tuple[int, int]] = []

    def job(slot: int, now: float) -> None:
        slots.append((wanted[0], slot))
        ran.set()

    def work() -> None:
        wanted.append(clock.coming_slot)
        clock.wheel.add(VIDEO, wanted[0], job)

    wanted: list[int] = []
    clock.start()
    await asyncio.to_thread(clock.post, work)
    async with asyncio.timeout(10):
        await ran.wait()
    clock.stop()
    clock.post(work)  # the clock has stopped: nothing happens
    assert len(slots) == 1 and slots[0][1] >= slots[0][0]


async def test_posted_work_that_fails_stops_nobody() -> None:
    clock, ran = MediaClock(), asyncio.Event()
    clock.start()
    clock.post(lambda: 1 // 0)
    clock.post(ran.set)
    async with asyncio.timeout(10):
        await ran.wait()
    assert clock.wheel.failures == 1
    clock.stop()


def test_lateness_quantiles() -> None:
    lateness = Lateness()
    for number in range(1000):
        lateness.add(number / 100_000)
    assert lateness.quantile(0.5) == pytest.approx(0.005, abs=0.00026)
    assert lateness.quantile(0.99) == pytest.approx(0.0099, abs=0.00026)
    lateness.add(3.0)
    lateness.add(-0.001)
    assert lateness.worst == 3.0 and lateness.quantile(1.0) == pytest.approx(0.25, abs=0.001)
    other = Lateness()
    other.merge(lateness)
    assert (other.count, other.worst, other.quantile(0.5)) == (1002, 3.0, lateness.quantile(0.5))


class TestLoad:
    def test_busy_encoders_refuse_calls_before_pictures_suffer(self) -> None:
        load = Load()
        load.judge(0.8, 0, 100, 0.001)
        assert load.overloaded and load.divider == 1 and not load.thin(1)

    def test_starving_encoders_halve_the_pictures_and_recover_after_calm(self) -> None:
        load = Load()
        load.judge(0.99, 40, 60, 0.001)
        assert load.overloaded and load.divider == 1  # one bad second may be a burst
        load.judge(0.99, 40, 60, 0.001)
        assert load.divider == 2 and load.thin(1) and not load.thin(2)
        load.judge(0.99, 40, 60, 0.001)
        load.judge(0.99, 40, 60, 0.001)
        assert load.divider == 4
        for _ in range(10):
            load.judge(0.2, 0, 60, 0.001)
        assert load.divider == 1
        load.judge(0.2, 0, 60, 0.001)
        assert not load.overloaded

    def test_a_late_clock_refuses_calls(self) -> None:
        load = Load()
        for _ in range(2):
            load.judge(0.1, 0, 10, 0.03)
        assert not load.overloaded  # a hiccup of the host
        load.judge(0.1, 0, 10, 0.03)
        assert load.overloaded and load.divider == 1
