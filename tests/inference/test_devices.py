"""Several devices behind one front: a process for each, slots that add up, and what the loss of one costs."""

from __future__ import annotations

import asyncio
import os
import signal
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from inference_server.streams.admission import SpeakingSlots
from inference_server.streams.stream_devices import StreamDevices
from tests.support.avatar_client import Conversation, connect, portrait, prepare, refusal, voice
from tests.support.servers import InferenceServer, running_server
from visavis.avatar.v1 import avatar_pb2 as pb

TWO = {"devices": 2}
FPS = Fraction(25)


class FakeDevice(SimpleNamespace):
    """By identity, as a device is."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def device(slots: int) -> Any:
    """A device without a process, and a log of which sessions its renderer was given."""
    drawn: list[Any] = []
    renderer = SimpleNamespace(add=lambda session, resident: drawn.append(session), remove=drawn.remove)
    renderer.remove = lambda session: drawn.remove(session) if session in drawn else None
    return FakeDevice(
        slots=SpeakingSlots(slots),
        renderer=renderer,
        drawn=drawn,
        residency=SimpleNamespace(release=lambda resident: None),
    )


def stream(*devices: Any) -> tuple[StreamDevices, Any]:
    """Of a stream whose avatar all of them hold, and its session."""
    session = SimpleNamespace(speaking=False)
    resident: Any = SimpleNamespace(largest=None)
    made = StreamDevices(devices[0], resident, lambda: session)  # type: ignore[arg-type, return-value]
    for each in devices[1:]:
        made.add(each, resident)
    return made, session


def test_a_turn_goes_to_the_least_loaded_device_and_stays_while_it_lives() -> None:
    large, small = device(4), device(2)
    streams = [stream(large, small) for _ in range(7)]
    for each, session in streams[:6]:
        assert each.take(FPS)
        session.speaking = True
    assert (large.slots.used, small.slots.used) == (4, 2)
    assert not streams[6][0].take(FPS) and streams[6][0].total == 6
    talking, _ = streams[0]  # gives its slot back in a pause, and the other device has the freer one
    talking.give(FPS)
    small.slots.give(FPS)
    small.slots.give(FPS)
    assert talking.take(FPS) and (large.slots.used, small.slots.used) == (4, 0)


def test_a_lost_device_ends_the_streams_that_it_draws_and_no_others() -> None:
    one, two = device(1), device(1)
    speaking, session = stream(one, two)
    idle, _ = stream(one, two)
    assert speaking.take(FPS)
    session.speaking = True
    assert not idle.lost(two) and idle.total == 1
    assert speaking.lost(one)
    assert idle.lost(one)  # no other has its avatar


def started(server: InferenceServer, name: str) -> int:
    """The process of a device, the newest."""
    lines = [line for line in server.log if line["event"] == "engine_started"]
    first = lines[0]["engine_pid"] if name == "card:0" else None
    return int(next((each["engine_pid"] for each in reversed(lines) if each.get("device") == name), first))


async def until(stub: Any, **values: Any) -> pb.Capacity:
    """The next figures that are so."""
    watch = stub.WatchCapacity(pb.WatchCapacityRequest(), timeout=30)
    while True:
        told: pb.Capacity = await watch.read()
        if all(getattr(told, name) == value for name, value in values.items()):
            watch.cancel()
            return told


@pytest.mark.process
async def test_one_device_of_two_is_lost_and_comes_back() -> None:
    async with (
        running_server(engine_settings=TWO, slots=2) as server,
        connect(server.address) as stub,
    ):
        assert (await until(stub, speaking_slots=4)).not_ready_reason == ""
        assert (await server.event("devices"))["names"] == ["card:0", "card:1"]
        avatar = await prepare(stub, width=128, height=96)
        talks = [Conversation(stub) for _ in range(5)]
        for talk in talks:
            await talk.open(avatar.avatar_id)
        await server.event("avatar_there", count=5)
        for talk in talks[:4]:
            await talk.say(voice(16_000), end=False)
            await talk.wait("frame")
        await talks[4].send(turn_start=pb.TurnStart(turn_id=1))
        assert (await talks[4].wait("turn_rejected")).reason.startswith("all 4 speaking slots are taken")
        os.kill(started(server, "card:1"), signal.SIGKILL)
        ended = await asyncio.gather(*(refusal(talks[n].wait("nothing")) for n in (1, 3)))
        assert all("open the stream again" in sentence for _, sentence in ended)
        told = await until(stub, speaking_slots=2)
        assert told.ready and told.not_ready_reason.startswith(
            "card:1: the engine process was killed by SIGKILL"
        )
        for n in (0, 2):
            await talks[n].send(end_of_turn=pb.EndOfTurn(turn_id=1))
            assert (await talks[n].collect())[1].frames > 0
        await until(stub, speaking_slots=4, not_ready_reason="")
        await server.event("avatar_there", count=6)  # an idle stream has the new process, too
        for turn_id in (2, 3):
            await talks[4].say(voice(8000), turn_id=turn_id)
            assert (await talks[4].collect(turn_id))[1].late == 0
        for talk in talks:
            talk.call.cancel()


@pytest.mark.process
async def test_a_process_knows_its_device_after_a_restart_and_preparations_are_shared_out() -> None:
    async with (
        running_server(engine_settings={**TWO, "prepare_steps": 200}, prepare_workers=2) as server,
        connect(server.address) as stub,
    ):
        await server.event("engine_ready", count=2)
        os.kill(started(server, "card:0"), signal.SIGKILL)
        await server.event("engine_ready", count=3)
        settings = [
            line
            for line in server.log
            if line["event"] in ("engine_started", "devices") and "names" not in line
        ]
        assert [line.get("device") for line in settings] == [None, "card:1", "card:0"]
        assert len([line for line in server.log if line["event"] == "devices"]) == 1
        made = await asyncio.gather(
            *(prepare(stub, portrait(seed), width=128, height=96) for seed in range(4))
        )
        assert len({avatar.avatar_id for avatar in made}) == 4
