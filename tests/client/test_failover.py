"""Servers that are lost, silent, full, drain or talk nonsense: the turn goes on elsewhere."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.avatar_stream import AVATAR, SOURCE, Caller, begin, conversation, play
from tests.support.fake_server import (
    FPS,
    FakeServer,
    avatar,
    body_sha256,
    fake_server,
    of_another_version,
    start,
)
from visavis import errors
from visavis.client import wire
from visavis.client.avatar_client import AvatarClient
from visavis.client.messages import AvatarReplaced, Connected, Disconnected, GoAway, Open, TurnRejected
from visavis.client.pool import ServerPool
from visavis.frames import frame_start


async def test_a_lost_server_is_replaced_and_the_turn_goes_on_where_frames_are_missing() -> None:
    one, two = FakeServer(), FakeServer()
    running = {s.address: g for s, g in ((one, await start(one)), (two, await start(two)))}
    async with conversation(one, two) as (caller, stream, _):
        begin(stream, seconds=10)
        await play(caller, stream, range(200))
        first = stream.address
        assert first is not None
        seen = max(caller.frames())
        await running[first].stop(None)
        await caller.until(lambda: len(caller.of(Connected)) == 2)
        await play(caller, stream, range(200, 240))
        assert caller.frames() == list(range(max(caller.frames()) + 1))  # no gap and nothing twice
        second = one if two.address == first else two
        kinds = [r.WhichOneof("message") for r in second.requests]
        assert kinds[:4] == ["open", "turn_start", "anchor", "playhead"]
        turn = second.requests[1].turn_start
        assert (turn.turn_id, turn.epoch) == (1, 1)
        assert turn.render_from_sample >= frame_start(seen + 1, FPS)
        audio = next(r.audio for r in second.requests if r.WhichOneof("message") == "audio")
        assert audio.first_sample % 16000 == 0
        assert 5 * 16000 <= turn.render_from_sample - audio.first_sample < 6 * 16000
        assert caller.of(Connected)[1].resumed == 1
        assert [d.address for d in caller.of(Disconnected)] == [first]
    for server in running.values():
        await server.stop(None)


async def test_a_server_that_comes_back_gets_the_turn_again() -> None:
    server = FakeServer()
    running = await start(server)
    port = int(server.address.rpartition(":")[2])
    async with conversation(server) as (caller, stream, _):
        begin(stream, seconds=10)
        await play(caller, stream, range(5))
        await running.stop(None)
        await caller.until(lambda: any(d.address is None for d in caller.of(Disconnected)))
        stream.playhead(frame_start(50, FPS))  # the audio went on meanwhile
        running = await start(server, port)
        await caller.until(lambda: len(caller.of(Connected)) == 2)
        await caller.until(lambda: 50 in caller.frames())
        assert 30 not in caller.frames()
    await running.stop(None)


async def test_a_server_that_falls_silent_is_left() -> None:
    async with fake_server() as one, fake_server() as two, conversation(one, two) as (caller, stream, _):
        begin(stream, seconds=10)
        await play(caller, stream, range(5))
        silent = one if stream.address == one.address else two
        silent.silent = True
        k = 5
        while len(caller.of(Connected)) < 2 and k < 200:
            stream.playhead(frame_start(k, FPS))
            await asyncio.sleep(0.04)
            k += 1
        assert stream.address not in (None, silent.address)
        assert "has sent no frame" in caller.of(Disconnected)[0].reason
        await play(caller, stream, range(k, k + 5))


async def test_a_server_that_does_not_open_is_passed_over() -> None:
    async with fake_server() as one, fake_server() as two, conversation(one, two) as (caller, stream, pool):
        await caller.until(lambda: caller.of(Connected))
        first = one if stream.address == one.address else two
        other = two if first is one else one
        first.mute_open = True
        async with AvatarClient(first.address) as client:
            with pytest.raises(errors.ServerStalled, match=r"did not open a conversation within 0\.1 s"):
                await client.converse(Open("anna"), 0.1)
        assert other.address in pool.placement.servers


async def test_a_full_server_sends_the_turn_elsewhere() -> None:
    async with fake_server() as one, fake_server() as two, conversation(one, two) as (caller, stream, _):
        await caller.until(lambda: caller.of(Connected))
        full, free = (one, two) if stream.address == one.address else (two, one)
        full.full = True
        begin(stream)
        await caller.until(lambda: 5 in caller.frames())
        assert stream.address == free.address
        assert not caller.of(TurnRejected)


async def test_with_every_server_full_the_turn_is_rejected_and_taken_when_there_is_room() -> None:
    async with fake_server() as server, conversation(server) as (caller, stream, _):
        await caller.until(lambda: caller.of(Connected))
        server.full = True
        begin(stream)
        await caller.until(lambda: caller.of(TurnRejected))
        assert caller.of(TurnRejected)[0].turn_id == 1
        server.full = False
        await caller.until(lambda: 5 in caller.frames())


async def test_a_draining_server_is_left_between_turns() -> None:
    async with fake_server() as one, fake_server() as two, conversation(one, two) as (caller, stream, _):
        begin(stream, seconds=1)
        await play(caller, stream, range(5))
        first = one if stream.address == one.address else two
        first.go_away.set()
        await caller.until(lambda: caller.of(GoAway))
        await play(caller, stream, range(5, 28))
        await caller.until(lambda: len(caller.of(Connected)) == 2)
        assert caller.frames() == list(range(28))  # all from the first
        assert stream.address != first.address
        assert not caller.of(Disconnected)
        begin(stream, turn=2, epoch=1)
        await caller.until(lambda: caller.frames(turn=2))


async def test_where_only_another_version_is_left_the_caller_is_told_which_avatar_to_take() -> None:
    async with (
        fake_server() as old,
        fake_server(of_another_version()) as new,
        conversation(old, new, source=SOURCE) as (caller, stream, pool),
    ):
        begin(stream, seconds=1)
        await play(caller, stream, range(5))
        old.go_away.set()
        await caller.until(lambda: caller.of(AvatarReplaced))
        assert caller.of(AvatarReplaced)[0].avatar == wire.avatar_from(new.makes)
        assert pool.placement.servers[new.address].failure is None  # well, for whoever takes that avatar
        await play(caller, stream, range(5, 28))  # the turn goes on where it is
        assert stream.address == old.address and not caller.of(Disconnected)
        await asyncio.sleep(0.5)
        assert new.prepares == 1 and len(caller.of(AvatarReplaced)) == 1


async def test_a_turn_goes_on_in_whole_pictures_where_the_body_is_another_one_of_equal_length() -> None:
    made = avatar("anna of another version")
    made.body_sha256 = b"\1" * 32
    async with (
        fake_server(FakeServer(drain_ms=700)) as old,
        fake_server(FakeServer(known=set(), makes=made, draining=True)) as new,  # it takes no call at first
        conversation(old, new, source=SOURCE) as (caller, stream, _),
    ):
        begin(stream, seconds=10)
        new.draining = False
        new.change()
        await play(caller, stream, range(10))
        old.go_away.set()
        await caller.until(lambda: len(caller.of(Connected)) == 2)
        assert stream.address == new.address and caller.of(Connected)[1].opened.scope == "whole"
        await play(caller, stream, range(10, 30))
        assert [event.avatar for event in caller.of(AvatarReplaced)] == [wire.avatar_from(made)]


async def test_another_version_is_passed_over_while_a_server_draws_on_our_body() -> None:
    async with (
        fake_server() as one,
        fake_server() as two,
        fake_server(of_another_version()) as new,
        conversation(one, two, new, source=SOURCE) as (caller, stream, _),
    ):
        begin(stream, seconds=10)
        await play(caller, stream, range(5))
        first, second = (one, two) if stream.address == one.address else (two, one)
        second.known.clear()  # both would have to prepare the avatar, and the new one is idler
        second.sessions = 1
        second.change()
        first.go_away.set()
        await caller.until(lambda: len(caller.of(Connected)) == 2)
        assert stream.address == second.address
        assert new.prepares >= 1
        assert not caller.of(AvatarReplaced)


async def test_where_another_version_is_left_after_a_while_the_caller_is_told_at_once() -> None:
    """Not when a server that was passed over is asked again."""
    async with (
        fake_server() as one,
        fake_server() as two,
        fake_server(of_another_version()) as new,
        conversation(one, two, new, source=SOURCE) as (caller, stream, pool),
    ):
        await caller.until(lambda: caller.of(Connected))
        first, second = (one, two) if stream.address == one.address else (two, one)
        second.known.clear()  # both would have to prepare the avatar, and the new one is idler
        second.sessions = 1
        second.change()
        async with asyncio.timeout(15):
            while pool.placement.servers[second.address].holds("anna"):
                await pool.wait_change(1.0)
        first.go_away.set()
        await caller.until(lambda: len(caller.of(Connected)) == 2)
        assert new.prepares >= 1 and stream.address == second.address
        first.draining = True
        first.change()
        second.go_away.set()
        await caller.until(lambda: caller.of(AvatarReplaced), 10)
        assert caller.of(AvatarReplaced)[0].avatar == wire.avatar_from(new.makes)


async def test_a_turn_that_outlasts_the_drain_goes_on_elsewhere_without_a_gap() -> None:
    async with (
        fake_server(FakeServer(drain_ms=700)) as one,
        fake_server(FakeServer(drain_ms=700)) as two,
        conversation(one, two) as (caller, stream, _),
    ):
        begin(stream, seconds=10)
        await play(caller, stream, range(30))
        first = one if stream.address == one.address else two
        first.go_away.set()
        await caller.until(lambda: len(caller.of(Connected)) == 2)
        assert stream.address != first.address and caller.of(Connected)[1].resumed == 1
        await play(caller, stream, range(30, 60))
        assert caller.frames() == list(range(max(caller.frames()) + 1))
        assert not caller.of(Disconnected)


async def test_a_server_gone_from_dns_keeps_its_conversations() -> None:
    async with fake_server() as one, fake_server() as two:
        found = [one.address]

        async def resolve(target: str, known: object) -> list[str]:
            return found

        caller = Caller()
        async with ServerPool("dns:///inference:50051", resolver=resolve) as pool:
            stream = pool.open(AVATAR, body_sha256=body_sha256(), on_event=caller)
            begin(stream, seconds=10)
            await play(caller, stream, range(5))
            found[:] = [two.address]
            await pool._discovery.look()
            assert list(pool.placement.servers) == [two.address]
            await play(caller, stream, range(5, 40))
            assert stream.address == one.address
            one.go_away.set()
            stream.interrupt(2)
            await caller.until(lambda: stream.address == two.address)
            await stream.close()


async def test_a_server_that_breaks_the_contract_is_left_not_believed() -> None:
    async with fake_server() as one, fake_server() as two, conversation(one, two) as (caller, stream, _):
        await caller.until(lambda: caller.of(Connected))
        bad = one if stream.address == one.address else two
        bad.corrupt = True
        begin(stream)
        await caller.until(lambda: 5 in caller.frames())
        assert stream.address not in (None, bad.address)
        assert "beyond the loop" in caller.of(Disconnected)[0].reason
