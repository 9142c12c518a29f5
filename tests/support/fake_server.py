"""A small avatar server in this process, for tests of the client: it draws solid mouths and obeys faults."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import grpc
import numpy as np

from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1 import avatar_pb2_grpc as pb_grpc
from visavis.frames import SAMPLE_RATE, frame_at, frame_start

FPS = Fraction(25)
WIDTH, HEIGHT, LOOP = 64, 48, 50
RECT = (16, 24, 32, 16)
SEGMENTS = dict(zip(range(0, LOOP, 10), ("breath", "nod", "away", "tilt", "lift"), strict=True))
WINDOW = SAMPLE_RATE * 400 // 1000
LOOK_AHEAD = SAMPLE_RATE * 100 // 1000


def body_frames() -> list[bytes]:
    """Loop frames whose luma is their index."""
    frames = []
    for i in range(LOOP):
        picture = np.full(WIDTH * HEIGHT * 3 // 2, 128, np.uint8)
        picture[: WIDTH * HEIGHT] = 16 + i
        frames.append(picture.tobytes())
    return frames


def body_sha256() -> bytes:
    return hashlib.sha256(b"".join(body_frames())).digest()


def avatar(avatar_id: str = "anna") -> pb.Avatar:
    return pb.Avatar(
        avatar_id=avatar_id,
        body_id="body",
        body_sha256=body_sha256(),
        width=WIDTH,
        height=HEIGHT,
        fps=pb.FrameRate(num=25, den=1),
        loop_length=LOOP,
        jumps=[pb.LoopJump(**{"from": 10, "to": 30})],
    )


def of_segments() -> FakeServer:
    """A server whose loop is cut into ``SEGMENTS``, which may follow in any order."""
    made = avatar()
    del made.jumps[:]
    for start, kind in SEGMENTS.items():
        made.segments.append(pb.LoopSegment(start=start, kind=kind))
        made.jumps.extend(pb.LoopJump(**{"from": (start - 1) % LOOP, "to": to}) for to in SEGMENTS)
    return FakeServer(makes=made)


def entered(indices: Sequence[int]) -> list[str]:
    """The kinds of the segments that a body goes into: it moves by one, or from one segment's end to another."""
    kinds = []
    for before, after in itertools.pairwise(indices):
        assert after == (before + 1) % LOOP or (before % 10 == 9 and after in SEGMENTS), (before, after)
        if after in SEGMENTS:
            kinds.append(SEGMENTS[after])
    return kinds


def of_another_version() -> FakeServer:
    """A server whose loops are shorter, and which takes no bundles of ours."""
    made = avatar("anna of another version")
    made.loop_length, made.body_id = 40, "another body"
    made.body_sha256 = hashlib.sha256(b"".join(body_frames()[:40])).digest()
    return FakeServer(known=set(), makes=made)


@dataclass
class FakeServer(pb_grpc.AvatarServiceServicer):
    """Knows the avatars in ``known``, and makes ``makes`` of a portrait.

    ``leads``: who follows its path goes into the last of ``SEGMENTS`` at every cut. Faults: ``silent``, ``full``,
    ``mute_open``, ``corrupt``.
    """

    known: set[str] = field(default_factory=lambda: {"anna"})
    slots: int = 4
    full: bool = False
    silent: bool = False
    mute_open: bool = False
    prepares: int = 0
    imports: int = 0
    fetches: int = 0
    sessions: int = 0
    requests: list[pb.ConverseRequest] = field(default_factory=list)
    go_away: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    draining: bool = False
    drain_ms: int = 5000
    leads: bool = False
    corrupt: bool = False
    makes: pb.Avatar = field(default_factory=avatar)
    address: str = ""

    def capacity(self) -> pb.Capacity:
        return pb.Capacity(
            speaking_slots=self.slots,
            speaking_slots_free=0 if self.full else self.slots,
            sessions=self.sessions,
            max_sessions=100,
            ready=True,
            draining=self.draining,
            avatar_ids=sorted(self.known),
        )

    def change(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def GetCapabilities(self, request: Any, context: Any) -> pb.Capabilities:
        return pb.Capabilities(
            engine="fake", build="1", speaking_slots=self.slots, ready=True, limits=pb.Limits(window_ms=400)
        )

    async def WatchCapacity(self, request: Any, context: Any) -> AsyncIterator[pb.Capacity]:
        while True:
            yield self.capacity()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.changed.wait(), 0.5)

    async def PrepareAvatar(self, request: Any, context: Any) -> AsyncIterator[pb.PrepareAvatarProgress]:
        self.prepares += 1
        if not request.image.startswith(b"image"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the upload is not an image")
        yield pb.PrepareAvatarProgress(progress=0.5)
        self.known.add(self.makes.avatar_id)
        yield pb.PrepareAvatarProgress(progress=1.0, avatar=self.makes)
        self.change()

    async def UploadAvatar(self, requests: Any, context: Any) -> AsyncIterator[pb.PrepareAvatarProgress]:
        """The pieces as one request."""
        yield pb.PrepareAvatarProgress()
        whole = await anext(aiter(requests))
        async for piece in requests:
            kind = piece.WhichOneof("source")
            setattr(whole, kind, getattr(whole, kind) + getattr(piece, kind))
        async for step in self.PrepareAvatar(whole, context):
            yield step

    async def FetchBody(self, request: Any, context: Any) -> AsyncIterator[pb.BodyFrame]:
        self.fetches += 1
        if request.avatar_id not in self.known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"avatar {request.avatar_id} is not prepared here")
        made = self.makes if request.avatar_id == self.makes.avatar_id else avatar()
        for i, pixels in enumerate(body_frames()[: made.loop_length]):
            yield pb.BodyFrame(loop_index=i, pixels=pixels, avatar=None if i else made)

    async def ExportAvatar(self, request: Any, context: Any) -> AsyncIterator[pb.BundleChunk]:
        if request.avatar_id not in self.known:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"avatar {request.avatar_id} is not prepared here")
        yield pb.BundleChunk(data=b"bundle of ")
        yield pb.BundleChunk(data=request.avatar_id.encode())

    async def ImportAvatar(self, request_iterator: Any, context: Any) -> pb.ImportAvatarResponse:
        data = b"".join([chunk.data async for chunk in request_iterator])
        self.imports += 1
        if self.makes.avatar_id != "anna":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the bundle was made by another build")
        avatar_id = data.removeprefix(b"bundle of ").decode()
        self.known.add(avatar_id)
        self.change()
        return pb.ImportAvatarResponse(avatar=avatar(avatar_id))

    async def Converse(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.ConverseResponse]:
        first = await anext(aiter(request_iterator))
        if self.mute_open:
            await asyncio.sleep(60)
        if first.open.avatar_id not in self.known:
            name = first.open.avatar_id
            await context.abort(grpc.StatusCode.NOT_FOUND, f"avatar {name} is not prepared here")
        self.requests.append(first)
        made = self.makes if first.open.avatar_id == self.makes.avatar_id else avatar(first.open.avatar_id)
        whole = first.open.body_sha256 != made.body_sha256 or first.open.scope == pb.FRAME_SCOPE_WHOLE
        opened = pb.Opened(
            avatar=made,
            pixel_format=pb.PIXEL_FORMAT_I420,
            scope=pb.FRAME_SCOPE_WHOLE if whole else pb.FRAME_SCOPE_RECTANGLE,
            look_ahead_ms=100,
            history_ms=500,
            window_ms=400,
            closing_frames=3,
        )
        self.sessions += 1
        self.change()
        out: asyncio.Queue[pb.ConverseResponse] = asyncio.Queue()
        out.put_nowait(pb.ConverseResponse(opened=opened))
        tasks = [
            asyncio.create_task(
                _Session(self, made.loop_length, out, whole, self.leads and first.open.follows_path).run(
                    request_iterator
                )
            ),
            asyncio.create_task(self._say_go_away(out)),
        ]
        try:
            while True:
                response = await out.get()
                if self.silent:
                    continue
                yield response
        finally:
            self.sessions -= 1
            self.change()
            for task in tasks:
                task.cancel()

    async def _say_go_away(self, out: asyncio.Queue[pb.ConverseResponse]) -> None:
        await self.go_away.wait()
        out.put_nowait(
            pb.ConverseResponse(go_away=pb.GoAway(reason="the server drains", deadline_ms=self.drain_ms))
        )


@dataclass
class _Session:
    server: FakeServer
    length: int
    out: asyncio.Queue[pb.ConverseResponse]
    whole: bool
    leads: bool

    async def run(self, requests: Any) -> None:
        turn = epoch = next_frame = end = 0
        anchors: list[tuple[int, int]] = []
        ended = done = False
        head = 0
        async for request in requests:
            self.server.requests.append(request)
            match request.WhichOneof("message"):
                case "turn_start":
                    start = request.turn_start
                    if self.server.full:
                        no = pb.TurnRejected(turn_id=start.turn_id, reason="all speaking slots are taken")
                        self.out.put_nowait(pb.ConverseResponse(turn_rejected=no))
                        continue
                    turn, epoch, ended, done, head, anchors = start.turn_id, start.epoch, False, False, 0, []
                    next_frame = frame_at(start.render_from_sample + frame_start(1, FPS) - 1, FPS)
                    end = -1
                    self.out.put_nowait(pb.ConverseResponse(turn_accepted=pb.TurnAccepted(turn_id=turn)))
                case "audio":
                    assert end in (-1, request.audio.first_sample), "audio must be contiguous"
                    end = request.audio.first_sample + len(request.audio.pcm) // 2
                case "anchor":
                    a = request.anchor
                    anchors = [x for x in anchors if x[0] < a.audio_sample] + [(a.audio_sample, a.loop_index)]
                    next_frame = (
                        min(next_frame, frame_at(a.audio_sample, FPS)) if len(anchors) > 1 else next_frame
                    )
                case "playhead":
                    head = request.playhead.audio_sample
                case "end_of_turn":
                    ended = True
                case "interrupt":
                    turn, epoch, done = 0, request.interrupt.epoch, True
                    self.out.put_nowait(pb.ConverseResponse(interrupted=pb.Interrupted(epoch=epoch)))
            while turn and anchors and not done:
                first, past = frame_start(next_frame, FPS), frame_start(next_frame + 1, FPS)
                closing = ended and first >= end
                if first > head + WINDOW or (not ended and past + LOOK_AHEAD > end):
                    break
                done = closing and first >= end + frame_start(2, FPS)
                self.out.put_nowait(
                    pb.ConverseResponse(frame=self._frame(turn, epoch, next_frame, anchors, done))
                )
                next_frame += 1
                if done:
                    finished = pb.TurnFinished(turn_id=turn, frames=next_frame)
                    self.out.put_nowait(pb.ConverseResponse(turn_finished=finished))

    def _frame(self, turn: int, epoch: int, k: int, anchors: list[tuple[int, int]], last: bool) -> pb.Frame:
        start = frame_start(k, FPS)
        sample, index = next((a for a in reversed(anchors) if frame_at(a[0], FPS) <= k), anchors[0])
        x, y, w, h = (0, 0, WIDTH, HEIGHT) if self.whole else RECT
        for _ in range(k - frame_at(sample, FPS)):
            index = max(SEGMENTS) if self.leads and index % 10 == 9 else (index + 1) % self.length
        return pb.Frame(
            turn_id=turn,
            epoch=epoch,
            audio_sample=start,
            loop_index=self.length if self.server.corrupt else index % self.length,
            kind=pb.FRAME_KIND_BODY if last and not self.whole else pb.FRAME_KIND_MOUTH,
            rect=None if last and not self.whole else pb.Rect(x=x, y=y, width=w, height=h),
            pixels=b"" if last and not self.whole else bytes([200]) * (w * h * 3 // 2),
            last=last,
        )


@contextlib.asynccontextmanager
async def fake_server(fake: FakeServer | None = None, port: int = 0) -> AsyncIterator[FakeServer]:
    """Serve ``fake`` on a port of 127.0.0.1."""
    fake = fake or FakeServer()
    server = await start(fake, port)
    try:
        yield fake
    finally:
        await server.stop(0)


async def start(fake: FakeServer, port: int = 0) -> grpc.aio.Server:
    server = grpc.aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.http2.min_ping_interval_without_data_ms", 5000)]
    )
    pb_grpc.add_AvatarServiceServicer_to_server(fake, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    fake.address = f"127.0.0.1:{bound}"
    await server.start()
    return server
