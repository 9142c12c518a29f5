"""One conversation over gRPC against a server in this process: turns, loss, resumption, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import pytest
from support.fake_server import FPS, LOOP, WINDOW, FakeServer, avatar, body_sha256, fake_server, start

from visavis import errors, wire
from visavis.body import BodyCache
from visavis.client import AvatarClient
from visavis.frames import Frame, frame_at, frame_start
from visavis.messages import (
    Connected,
    Disconnected,
    Event,
    GoAway,
    Interrupted,
    Open,
    TurnAccepted,
    TurnFinished,
    TurnRejected,
)
from visavis.model import AvatarSource
from visavis.pool import ServerPool
from visavis.stream import AvatarStream

SECOND = b"\1\0" * 16000
SOURCE = AvatarSource(b"image of anna", 64, 48)
AVATAR = wire.avatar_from(avatar())
E = TypeVar("E", bound=Event)


class Caller:
    """Remembers what it hears."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.news = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        self.news.set()

    def of(self, kind: type[E]) -> list[E]:
        return [e for e in self.events if isinstance(e, kind)]

    def frames(self, turn: int = 1) -> list[int]:
        """Which frames of a turn have come, in order."""
        return [frame_at(f.sample, FPS) for f in self.of(Frame) if f.turn_id == turn]

    async def until(self, what: Callable[[], object], seconds: float = 15.0) -> None:
        async with asyncio.timeout(seconds):
            while not what():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def conversation(
    *servers: FakeServer, body: bytes | None = None, source: AvatarSource | None = None, up: bool = True
) -> AsyncIterator[tuple[Caller, AvatarStream, ServerPool]]:
    """``up``: the servers run, and are found before the conversation begins."""
    caller = Caller()
    async with ServerPool([s.address for s in servers]) as pool:
        if up:
            await pool.wait_usable(15)
        sha = body_sha256() if body is None else body
        stream = pool.open(AVATAR, source=source, session_id="s", body_sha256=sha, on_event=caller)
        try:
            yield caller, stream, pool
        finally:
            await stream.close()


async def play(caller: Caller, stream: AvatarStream, frames: range) -> None:
    """Hear the turn up to each frame in turn, when the frame after it is there.

    A machine that is slow to bring one is told the time again and again, as by a real clock.
    """
    for k in frames:
        for more in reversed(range(15)):
            stream.playhead(frame_start(k, FPS))
            try:
                await caller.until(lambda k=k: k in caller.frames(), 1.0)  # type: ignore[misc]
                break
            except TimeoutError:
                if not more:
                    raise


def begin(stream: AvatarStream, seconds: int = 4, turn: int = 1, epoch: int = 1, index: int = 5) -> None:
    stream.start_turn(turn, epoch)
    stream.anchor(0, index)
    stream.playhead(0)
    stream.push_audio(SECOND * seconds)
    stream.end_turn()


async def test_a_turn_from_its_first_audio_to_its_report() -> None:
    async with fake_server() as server, conversation(server) as (caller, stream, _):
        begin(stream, seconds=1)
        await play(caller, stream, range(28))
        await caller.until(lambda: caller.of(TurnFinished))
        assert caller.frames() == list(range(28))
        assert [f.loop_index for f in caller.of(Frame)] == [(5 + k) % LOOP for k in range(28)]
        assert caller.of(Frame)[-1].last and caller.of(Frame)[-1].pixels is None
        assert caller.of(TurnAccepted) == [TurnAccepted(1)]
        assert caller.of(TurnFinished) == [TurnFinished(1, 28, 0)]
        assert caller.of(Connected)[0].opened.scope == "rectangle"
        assert stream.start_delay.p95_s < 5


async def test_the_playhead_is_the_window() -> None:
    async with fake_server() as server, conversation(server) as (caller, stream, _):
        begin(stream)
        ahead = WINDOW // frame_start(1, FPS)
        await caller.until(lambda: ahead in caller.frames())
        stream.playhead(frame_start(5, FPS))
        await caller.until(lambda: ahead + 5 in caller.frames())
        assert max(caller.frames()) == ahead + 5


async def test_without_the_body_whole_frames_come() -> None:
    async with fake_server() as server, conversation(server, body=b"") as (caller, stream, _):
        begin(stream)
        await caller.until(lambda: caller.of(Frame))
        frame = caller.of(Frame)[0]
        assert frame.rect == (0, 0, 64, 48) and len(frame.pixels or b"") == 64 * 48 * 3 // 2


async def test_events_can_be_iterated() -> None:
    async with fake_server() as server, ServerPool(server.address) as pool:
        stream = pool.open(AVATAR, body_sha256=body_sha256())
        begin(stream)
        seen = []
        async for event in stream:
            seen.append(type(event))
            if isinstance(event, Frame) and frame_at(event.sample, FPS) == 5:
                await stream.close()
                break
        assert seen == [Connected, TurnAccepted, *[Frame] * 6]


async def test_interrupt_lets_nothing_old_through_and_is_confirmed_once() -> None:
    async with fake_server() as server, conversation(server) as (caller, stream, _):
        begin(stream)
        await caller.until(lambda: caller.of(Frame))
        stream.interrupt(2)
        count = len(caller.of(Frame))
        begin(stream, turn=2, epoch=2)
        await caller.until(lambda: caller.frames(turn=2))
        assert len(caller.frames(turn=1)) == count
        assert caller.of(Interrupted) == [Interrupted(2)]
        assert not caller.of(TurnFinished)
        with pytest.raises(ValueError, match="epoch 1 is over"):
            stream.start_turn(3, 1)


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


async def test_an_unknown_avatar_is_prepared_from_its_portrait() -> None:
    async with (
        fake_server(FakeServer(known=set())) as server,
        conversation(server, source=SOURCE) as (caller, stream, _),
    ):
        begin(stream)
        await caller.until(lambda: caller.of(Frame))
        assert server.prepares == 1


async def test_an_unknown_avatar_without_a_portrait_is_told_in_a_sentence() -> None:
    async with fake_server(FakeServer(known=set())) as server, conversation(server) as (caller, _, _pool):
        await caller.until(lambda: caller.of(Disconnected))
        assert "its portrait is not at hand" in caller.of(Disconnected)[0].reason


async def test_an_avatar_in_use_is_kept_prepared_on_two_servers() -> None:
    async with (
        fake_server() as one,
        fake_server(FakeServer(known=set())) as two,
        conversation(one, two, source=SOURCE) as (caller, _, _pool),
    ):
        await caller.until(lambda: caller.of(Connected))
        async with asyncio.timeout(10):
            while "anna" not in one.known & two.known:
                await asyncio.sleep(0.02)
        assert one.imports + two.imports == 1 and one.prepares + two.prepares == 0


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


async def test_no_server_at_all_is_told_and_the_turn_is_still_reported() -> None:
    server = FakeServer()
    running = await start(server)
    await running.stop(None)
    async with conversation(server, up=False) as (caller, stream, _):
        begin(stream, seconds=1)
        await caller.until(lambda: caller.of(Disconnected))
        assert caller.of(Disconnected) == [Disconnected(None, "no avatar server can be used now")]
        stream.playhead(4 * 16000)
        await caller.until(lambda: caller.of(TurnFinished))
        assert caller.of(TurnFinished) == [TurnFinished(1, 0, 0)]


async def test_prepare_fetch_and_errors(tmp_path: Path) -> None:
    async with fake_server() as server, AvatarClient(server.address) as client:
        steps: list[float] = []
        prepared = await client.prepare(b"image", 64, 48, progress=steps.append)
        assert prepared == AVATAR and steps == [0.5, 1.0]
        assert prepared.jumps == ((10, 30),)
        cache = BodyCache(tmp_path)
        body = await client.fetch_body(prepared, cache)
        assert body.frames.shape == (LOOP, 72, 64) and body.frame(7)[0, 0] == 23
        again = await client.fetch_body(prepared, BodyCache(tmp_path))
        assert server.fetches == 1 and (again.frames == body.frames).all()
        assert (await client.capabilities()).window_ms == 400
        with pytest.raises(errors.InvalidRequest, match="the upload is not an image"):
            await client.prepare(b"text")
        with pytest.raises(errors.AvatarUnknown, match="avatar nobody is not prepared here"):
            await client.export_avatar("nobody")
        bundle = await client.export_avatar("anna")
        assert (await client.import_avatar(bundle)).avatar_id == "anna"


async def test_a_client_opens_conversations_on_its_own_server() -> None:
    async with fake_server() as server, AvatarClient(server.address) as client:
        caller = Caller()
        stream = await client.open(AVATAR, body_sha256=body_sha256(), on_event=caller)
        begin(stream)
        await caller.until(lambda: 5 in caller.frames())
        await stream.close()


async def test_an_unreachable_server_is_one_clear_sentence() -> None:
    async with AvatarClient("127.0.0.1:1") as client:
        with pytest.raises(
            errors.ServerUnavailable, match=r"the avatar server at 127\.0\.0\.1:1 cannot be used"
        ):
            await client.capabilities()


async def test_misuse_is_told() -> None:
    async with fake_server() as server, conversation(server) as (_, stream, _pool):
        stream.push_audio(SECOND)  # no turn: without effect
        stream.start_turn(1, 0)
        with pytest.raises(ValueError, match="turn 1 has been started"):
            stream.start_turn(1, 0)
        with pytest.raises(ValueError, match="even number of bytes"):
            stream.push_audio(b"123")


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
            await pool._lookout.look()
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
