"""Mistakes of ours that must not end a task that others need."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

from orchestrator.calls.events import EventBus
from orchestrator.media.clock import MediaClock
from orchestrator.speech.base import PCM, VoiceByLanguage
from orchestrator.worker.host import HostSettings
from orchestrator.worker.messages import Message, Setup, TurnReport
from orchestrator.worker.pool import PoolSettings, WorkerPool
from tests.support.calls import answered_call
from tests.support.control import Control
from tests.support.sip_fake import AUDIO, Wire, established, request, sdp, settle, statuses
from visavis.service.supervisor import Supervisor


def test_a_message_of_a_worker_that_cannot_be_taken_costs_no_call() -> None:
    def broken(message: Message) -> None:
        raise KeyError("heard_ms")

    supervisor = Supervisor()
    pool = WorkerPool(PoolSettings(Setup(HostSettings())), broken, supervisor)
    pool._take(TurnReport("c1", "started", 1))
    (failure,) = supervisor.failures
    assert failure.task == "messages of media workers" and "heard_ms" in failure.reason


async def test_the_media_clock_goes_on_whatever_a_slot_does() -> None:
    clock, polled = MediaClock(), asyncio.Event()
    polls = 0

    def poll(now: float) -> None:
        nonlocal polls
        polls += 1
        if polls > 2:
            polled.set()
        raise ValueError("a socket")

    clock.every_slot.append(poll)
    clock.start()
    await asyncio.wait_for(polled.wait(), 5)
    clock.stop()
    assert clock.wheel.failures >= 3


async def test_a_voice_that_breaks_fails_its_turn_and_the_next_is_spoken() -> None:
    class Voice:
        sample_rate = 8000

        async def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
            raise RuntimeError("a mistake in the voice")
            yield

    call = answered_call(VoiceByLanguage({"en": Voice}), EventBus())
    first, second = call.say("one", "en"), call.say("two", "en")
    async with asyncio.timeout(5):
        await first.done.wait()
        await second.done.wait()
    assert (first.state, second.state) == ("failed", "failed")


async def test_what_a_call_spawned_and_raised_is_counted_and_the_next_call_comes_through() -> None:
    wire = Wire()
    await established(wire)
    call = wire.handler.calls[0]

    async def broken() -> None:
        raise LookupError("a mistake")

    call._agent.spawn(broken())
    await settle()
    assert [failure.task for failure in wire.agent._supervisor.failures] == ["sip"]
    again = request("INVITE", branch="z9hG4bKn", call_id="c2", body=sdp(AUDIO))
    assert statuses(await wire.put(again)) == [100, 200]


async def test_a_dead_task_is_a_metric(tmp_path: Path) -> None:
    house = Control(tmp_path)
    house.supervisor.failed("webhook 0", ValueError("a mistake"))
    text = (await house.api.get("/metrics")).text
    assert 'visavis_task_failures_total{task="webhook 0"} 1.0' in text
    await house.close()
