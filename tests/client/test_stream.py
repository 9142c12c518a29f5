"""One conversation over gRPC against a server in this process: a turn from end to end."""

from __future__ import annotations

import asyncio
import math
from typing import Any, cast

import grpc
import pytest

from tests.support.avatar_stream import AVATAR, SECOND, SOURCE, begin, conversation, play
from tests.support.fake_server import (
    FPS,
    LOOK_AHEAD,
    LOOP,
    WINDOW,
    FakeServer,
    body_sha256,
    fake_server,
    of_another_version,
    start,
)
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client.grpc_stream import GrpcLink, open_link
from visavis.client.messages import (
    Connected,
    Disconnected,
    Interrupt,
    Interrupted,
    Open,
    TurnAccepted,
    TurnFinished,
)
from visavis.client.pool import ServerPool
from visavis.client.start_delay import AS_SPOKEN_S, StartDelay
from visavis.errors import AvatarUnknown
from visavis.frames import Frame, frame_at, frame_start


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


class Seen(StartDelay):
    """Remembers what it is told."""

    def __init__(self) -> None:
        super().__init__(FPS)
        self.told: list[tuple[float, float]] = []

    def observe(self, latency_s: float, ahead_s: float = 0.0) -> None:
        self.told.append((latency_s, ahead_s))


async def test_the_first_frame_tells_how_far_the_sound_was_ahead_of_real_time() -> None:
    async with fake_server() as server, conversation(server) as (caller, stream, _):
        stream.start_delay = seen = Seen()
        begin(stream)  # and ends: all of it is there
        await caller.until(lambda: caller.frames(1))
        stream.start_turn(2, 1)
        stream.anchor(0, 5)
        stream.push_audio(SECOND[:640])
        await asyncio.sleep(0.15)
        stream.push_audio(SECOND[: 2 * LOOK_AHEAD + 640])
        await caller.until(lambda: caller.frames(2))
        stream.start_turn(3, 1)
        stream.anchor(0, 5)
        stream.push_audio(SECOND * 3)
        await caller.until(lambda: caller.frames(3))
        (_, whole), (took, spoken), (_, burst) = seen.told
        assert whole == math.inf and took > 0.15 and spoken < AS_SPOKEN_S
        assert seen.told[2][0] + burst == pytest.approx(3.0)


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


async def test_misuse_is_told() -> None:
    async with fake_server() as server, conversation(server) as (_, stream, _pool):
        stream.push_audio(SECOND)  # no turn: without effect
        stream.start_turn(1, 0)
        with pytest.raises(ValueError, match="turn 1 has been started"):
            stream.start_turn(1, 0)


async def test_streams_that_are_closed_at_any_moment_end(caplog: pytest.LogCaptureFixture) -> None:
    """Also where grpc.aio tells a cancelled task of the call's end instead."""
    caplog.set_level("CRITICAL", "visavis")
    async with fake_server(server := of_another_version()), ServerPool([server.address]) as pool:
        async with asyncio.timeout(15):
            while not all(each.capacity for each in pool.placement.servers.values()):
                await pool.wait_change(1.0)

        async def closed_after(delay_s: float) -> None:
            stream = pool.open(AVATAR, source=SOURCE, session_id="s", body_sha256=body_sha256())
            await asyncio.sleep(delay_s)
            async with asyncio.timeout(5):
                await stream.close()

        for _ in range(40):
            await asyncio.gather(*(closed_after(k / 2000) for k in range(20)))


class EndedMeanwhile:
    """A call of grpc.aio that ends when its reader is cancelled: what the core says then is all that it tells."""

    async def write(self, request: pb.ConverseRequest) -> None: ...

    async def read(self) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            status, none = grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(status, none, none, "no such avatar", None) from None

    def cancel(self) -> bool:
        return False


async def test_who_is_cancelled_while_a_call_ends_is_cancelled() -> None:
    call = cast(Any, EndedMeanwhile())
    link = GrpcLink(call, "a:1", cast(Any, None))
    for work in (open_link(call, "a:1", Open("anna", "s"), 5.0), link.receive()):
        task = asyncio.ensure_future(work)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


class Answering:
    """A call of grpc.aio that sends frames without end, or that its server has refused."""

    def __init__(self, refused: bool = False) -> None:
        self._refused = refused

    async def write(self, request: pb.ConverseRequest) -> None:
        if self._refused:
            none = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, none, none, "no such avatar", None)

    async def read(self) -> pb.ConverseResponse:
        return pb.ConverseResponse(interrupted=pb.Interrupted(epoch=7))


async def test_who_cleans_up_after_a_cancellation_is_told_what_the_call_says() -> None:
    told: list[object] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            link = GrpcLink(cast(Any, Answering()), "a:1", cast(Any, None))
            await link.send(Interrupt(7))
            told.append(await link.receive())
            with pytest.raises(AvatarUnknown):
                await GrpcLink(cast(Any, Answering(refused=True)), "a:1", cast(Any, None)).send(Interrupt(7))

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert told == [Interrupted(7)]
