"""The library against real inference servers: processes of their own, with the mock engine."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.avatar_client import portrait
from tests.support.servers import running_server
from visavis import errors
from visavis.client.avatar_client import AvatarClient
from visavis.client.body_cache import BodyCache
from visavis.client.messages import Connected, Event, TurnFinished
from visavis.client.model import AvatarSource
from visavis.client.pool import ServerPool
from visavis.client.stream import AvatarStream
from visavis.frames import Frame, frame_at, frame_start
from visavis.playout.playout import Picture, Playout
from visavis.roomkit.grpc_provider import GrpcAvatarProvider
from visavis.roomkit.types import VideoFrame

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("providers_loop")]

FPS = Fraction(25)
SOURCE = AvatarSource(portrait(), 128, 96, FPS)
VOICE = np.random.default_rng(1).integers(-9000, 9000, 16000 * 12, np.int16)


class Call:
    """A voice and its face, in real time."""

    def __init__(self, loop_length: int) -> None:
        self.playout = Playout(loop_length, FPS)
        self.pictures: list[Picture] = []
        self.events: list[Event] = []
        self.tick = 0

    def __call__(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Frame):
            self.playout.on_frame(event)

    def begin(self, stream: AvatarStream, seconds: int, turn: int = 1, epoch: int = 1) -> None:
        stream.start_turn(turn, epoch)
        anchor = self.playout.begin_turn(turn, epoch, 10)
        stream.anchor(anchor.sample, anchor.loop_index)
        stream.push_audio(VOICE[: seconds * 16000])
        stream.end_turn()
        self.playout.end_turn(seconds * 16000)
        self.end = seconds * 25
        self.tick = -10

    async def run(self, stream: AvatarStream, until: Callable[[], object], most: int = 500) -> None:
        """Tick once a frame until something is so."""
        loop = asyncio.get_running_loop()
        start = loop.time()
        for i in range(most):
            if until():
                return
            k = self.tick
            stream.playhead(frame_start(k, FPS) if k >= 0 else -frame_start(-k, FPS))
            self.pictures.append(self.playout.tick(frame_start(k, FPS) if 0 <= k < self.end else None))
            self.tick += 1
            await asyncio.sleep(max(0.0, start + (i + 1) / 25 - loop.time()))
        raise AssertionError("it did not come to pass")

    def check(self, loop_length: int) -> None:
        """The body never jumped, and every mouth was over its own body."""
        indices = [p.loop_index for p in self.pictures]
        assert indices == [(indices[0] + i) % loop_length for i in range(len(indices))]
        assert all(p.frame is None or p.frame.loop_index == p.loop_index for p in self.pictures)

    def of(self, kind: type) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]


async def test_a_turn_with_the_real_server(tmp_path: Path) -> None:
    async with running_server(slots=4) as server, ServerPool(server.address) as pool:
        steps: list[float] = []
        avatar = await pool.prepare(SOURCE, steps.append)
        assert steps[-1] == 1.0 and (avatar.width, avatar.height, avatar.fps) == (128, 96, FPS)
        assert await pool.prepare(SOURCE) == avatar
        body = await pool.fetch_body(avatar, BodyCache(tmp_path))
        call = Call(len(body))
        stream = pool.open(avatar, body_sha256=body.sha256, session_id="call", on_event=call)
        call.begin(stream, 2)
        await call.run(stream, lambda: call.of(TurnFinished) and call.playout.idle)
        call.check(len(body))
        frames = {frame_at(f.sample, FPS) for f in call.of(Frame)}
        assert len(frames) >= 20 and call.of(Frame)[-1].last
        assert len(call.of(TurnFinished)) == 1
        assert call.of(Connected)[0].opened.scope == "rectangle"
        await stream.close()


async def test_a_body_that_differs_gets_whole_frames(tmp_path: Path) -> None:
    async with running_server(slots=4) as server, ServerPool(server.address) as pool:
        avatar = await pool.prepare(SOURCE)
        call = Call(avatar.loop_length)
        stream = pool.open(avatar, body_sha256=bytes(32), on_event=call)
        call.begin(stream, 2)
        await call.run(stream, lambda: len(call.of(Frame)) > 5)
        assert call.of(Connected)[0].opened.scope == "whole"
        assert all(f.rect == (0, 0, 128, 96) for f in call.of(Frame))
        await stream.close()


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM])
async def test_lips_come_back_on_the_other_server(tmp_path: Path, fault: signal.Signals) -> None:
    async with (
        running_server(slots=4) as one,
        running_server(slots=4) as two,
        ServerPool([one.address, two.address]) as pool,
    ):
        avatar = await pool.prepare(SOURCE)
        body = await pool.fetch_body(avatar, BodyCache(tmp_path))
        call = Call(len(body))
        stream = pool.open(avatar, source=SOURCE, body_sha256=body.sha256, on_event=call)
        async with asyncio.timeout(30):  # the avatar in use is copied
            while not all(s.holds(avatar.avatar_id) for s in pool.placement.servers.values()):
                await asyncio.sleep(0.02)
        call.begin(stream, 12)
        await call.run(stream, lambda: call.tick >= 25)
        victim = one if stream.address == one.address else two
        victim.process.send_signal(fault)
        await call.run(stream, lambda: stream.address not in (None, victim.address))
        moved = len(call.pictures)
        await call.run(stream, lambda: sum(p.frame is not None for p in call.pictures[moved:]) >= 10)
        call.check(len(body))
        await stream.close()
        if fault is signal.SIGSTOP:
            victim.process.send_signal(signal.SIGCONT)


async def test_errors_of_the_real_server_are_sentences() -> None:
    async with running_server(slots=4) as server, AvatarClient(server.address) as client:
        assert (await client.capabilities()).engine == "mock"
        with pytest.raises(errors.InvalidRequest) as bad:
            await client.prepare(b"this is a text file")
        assert str(bad.value).strip()
        with pytest.raises(errors.AvatarUnknown) as unknown:
            await client.export_avatar("nobody")
        assert "nobody" in str(unknown.value)


async def test_the_provider_with_the_real_server(tmp_path: Path) -> None:
    seen: list[VideoFrame] = []
    async with running_server(slots=4) as server:
        face = GrpcAvatarProvider(server.address, fps=25, cache_directory=tmp_path, codec="raw_yuv420p")
        face.on_video(seen.append)
        await face.start(portrait(), width=128, height=96)
        idle = face.get_idle_frame()
        assert idle is not None
        face.feed_audio(VOICE[:32000].tobytes())
        face.end_turn()
        async with asyncio.timeout(30):
            while len(seen) < 40:
                await asyncio.sleep(0.02)
        await face.close()
        synchronous = GrpcAvatarProvider(server.address, fps=25, cache_directory=tmp_path, is_async=False)
        await synchronous.start(portrait(), width=128, height=96)
        session: Any = synchronous._session
        async with asyncio.timeout(30):
            while not session._stream.connected:
                await asyncio.sleep(0.01)
        frames = []
        for i in range(20):
            chunk = VOICE[i * 1600 : (i + 1) * 1600].tobytes()
            frames += await asyncio.to_thread(synchronous.feed_audio, chunk)
        frames += await asyncio.to_thread(synchronous.flush)
        assert 50 <= len(frames) <= 56
        assert session._playout.stats.shown >= 45
        await synchronous.close()
