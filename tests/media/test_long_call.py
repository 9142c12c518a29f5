"""A call of ten hours in simulated time: what a media worker holds of it does not grow. No sleeps."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection
from concurrent.futures import Executor, Future
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from orchestrator.avatar.avatars import ReadyAvatar
from orchestrator.avatar.owner import CallAvatarOwner
from orchestrator.avatar.source import PortraitFile
from orchestrator.media.clock import SLOT_SECONDS
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.rtp import packet, rtcp
from orchestrator.rtp.agreed import SrtpKeys
from orchestrator.rtp.dtmf import event_payloads
from orchestrator.worker.calls import CallTable
from orchestrator.worker.host import HostSettings, MediaHost
from orchestrator.worker.messages import (
    CallFailed,
    CloseCall,
    CloseVideo,
    ConfigureCall,
    Digit,
    EndTurn,
    Heard,
    InterruptTurns,
    Listen,
    Message,
    OpenCall,
    OpenVideo,
    RequestKeyframe,
    SendDigits,
    StartCall,
    StartTurn,
    ToFactory,
    TurnAudio,
    TurnReport,
)
from orchestrator.worker.owner import CallContext, WorkerContext
from tests.support.held import held
from tests.support.media import Phone, card_body, udp
from visavis.client.body_cache import Body
from visavis.client.events import OnEvent
from visavis.client.messages import (
    Anchor,
    Audio,
    EndOfTurn,
    Interrupt,
    Interrupted,
    Open,
    Request,
    ServerMessage,
    TurnFinished,
    TurnStart,
)
from visavis.client.model import Avatar, AvatarSource, Opened
from visavis.client.stream import AvatarStream
from visavis.errors import ServerUnavailable
from visavis.frames import Frame, Rect, frame_at, frame_start

ROUND_S = 144.0
WARM, ROUNDS = 39, 249
"""Until everything that is bounded is full, and of the whole call."""
FPS, LOOP, SIZE = Fraction(25), 25, (192, 128)
AVATAR = Avatar("a", "b", bytes(32), *SIZE, FPS, LOOP)
OPENED = Opened(AVATAR, "i420", "rectangle", None, 100, 500, 400, 3)
RECT = Rect(32, 64, 32, 16)
CODECS = (("PCMU", 0, 8000), ("opus", 111, 48_000), ("G722", 9, 16_000), ("PCMA", 8, 8000))


class Drawer:
    """A server's end of one conversation: draws every frame as soon as its sound and an anchor are there."""

    opened = OPENED

    def __init__(self, gone: Callable[[], bool]) -> None:
        self._gone = gone
        self._out: asyncio.Queue[ServerMessage | None] = asyncio.Queue()
        self._turn = (0, 0)
        self._samples = self._drawn = 0
        self._ended = False
        self._anchor: Anchor | None = None

    async def send(self, request: Request) -> None:
        if self._gone():
            self._out.put_nowait(None)
            raise ServerUnavailable("gone")
        match request:
            case TurnStart(turn_id, epoch, first):
                self._turn, self._samples, self._ended, self._anchor = (turn_id, epoch), 0, False, None
                self._drawn = frame_at(first, FPS)
            case Audio(_, _, first, pcm):
                self._samples = first + len(pcm) // 2
            case EndOfTurn():
                self._ended = True
            case Anchor():
                self._anchor = request
            case Interrupt(epoch):
                self._turn = (0, 0)
                self._out.put_nowait(Interrupted(epoch))
        self._draw()

    def _draw(self) -> None:
        anchor, (turn_id, epoch) = self._anchor, self._turn
        if anchor is None or not turn_id:
            return
        while frame_start(self._drawn + (not self._ended), FPS) < self._samples:
            sample = frame_start(self._drawn, FPS)
            index = (anchor.loop_index + self._drawn - frame_at(anchor.audio_sample, FPS)) % LOOP
            pixels = bytes([self._drawn % 256]) * (RECT.width * RECT.height * 3 // 2)
            self._drawn += 1
            last = self._ended and frame_start(self._drawn, FPS) >= self._samples
            self._out.put_nowait(Frame(turn_id, epoch, sample, index, "mouth", RECT, pixels, last))
        if self._ended:
            self._turn = (0, 0)
            self._out.put_nowait(TurnFinished(turn_id, self._drawn, 0))

    async def receive(self) -> ServerMessage:
        message = await self._out.get()
        if message is None:
            raise ServerUnavailable("gone")
        return message

    def cancel(self) -> None:
        self._out.put_nowait(None)


class Servers:
    """One server, which is gone now and then."""

    address = "drawer"

    def __init__(self) -> None:
        self.gone = False
        self._change = asyncio.Event()

    def switch(self, gone: bool) -> None:
        self.gone = gone
        self._change.set()

    async def converse(self, request: Open, deadline_s: float) -> Drawer:
        if self.gone:
            raise ServerUnavailable("gone")
        return Drawer(lambda: self.gone)

    def choose(self, avatar_id: str, exclude: Collection[str] = ()) -> Any:
        return None if self.gone or self.address in exclude else self

    def avatar_id_on(self, address: str, avatar: Avatar) -> str:
        return avatar.avatar_id

    def better(self, address: str, avatar: Avatar) -> None:
        return None

    async def wait_change(self, timeout_s: float) -> None:
        self._change.clear()
        await self._change.wait()

    async def prepare_on(self, client: object, avatar: Avatar) -> str:
        raise NotImplementedError

    def failed(self, *told: object) -> None: ...
    def opening(self, *told: object) -> None: ...
    def opened(self, *told: object) -> None: ...
    def closed(self, *told: object) -> None: ...
    def served(self, *told: object) -> None: ...


class Avatars:
    """A worker's avatars: one, ready."""

    def __init__(self, servers: Servers) -> None:
        body = Body(*SIZE, FPS, card_body(LOOP).frames, b"body")
        portrait = PortraitFile(Path(), *SIZE, FPS, "crop")
        self._ready = ReadyAvatar(portrait, AVATAR, AvatarSource(b"", *SIZE, FPS), body)
        self._servers = servers

    def avatar(self, portrait: PortraitFile) -> asyncio.Future[ReadyAvatar]:
        ready: asyncio.Future[ReadyAvatar] = asyncio.get_running_loop().create_future()
        ready.set_result(self._ready)
        return ready

    def converse(self, ready: ReadyAvatar, session_id: str, on_event: OnEvent) -> AvatarStream:
        servers: Any = self._servers
        return AvatarStream(servers, AVATAR, session_id=session_id, body_sha256=b"body", on_event=on_event)


class Owners:
    """A call factory whose calls have that avatar."""

    def __init__(self, servers: Servers) -> None:
        self._avatars: Any = Avatars(servers)

    def open(self, call: CallContext, start: StartCall) -> CallAvatarOwner:
        portrait = PortraitFile(Path("portrait"), *SIZE, FPS, "crop")
        return CallAvatarOwner(call, self._avatars, lambda _path, _fps: portrait, start)

    async def start(self, worker: WorkerContext) -> None: ...
    def take(self, message: ToFactory) -> None: ...
    async def close(self) -> None: ...


class AtOnce(Executor):
    """Does the work of the threads in the caller's."""

    def __init__(self, *_: object) -> None: ...

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(work(*args, **kwargs))
        return future


class LongCall:
    """Call "a" of a worker whose clock is turned by hand, and a phone that does everything that phones do."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = time.monotonic()
        monkeypatch.setattr("time.monotonic", lambda: self.now)  # the event loop's as well
        monkeypatch.setattr("orchestrator.worker.host.ThreadPoolExecutor", AtOnce)
        monkeypatch.setattr("orchestrator.media.video.live.ThreadPoolExecutor", AtOnce)
        self.host = MediaHost(HostSettings())
        self.servers = Servers()
        self.told: list[Message] = []
        self.calls = CallTable(self.host, Owners(self.servers), self._tell)
        self.phone, self.stranger = Phone(), udp()
        self.sequence, self.turn = 0, 0
        self.seen = {"voice": 0, "pictures": 0}

    def _tell(self, message: Message) -> None:
        self.told.append(message)

    async def run(self, seconds: float) -> None:
        """Let media run for so long."""
        wheel = self.host.clock.wheel
        end = wheel.slot_at(self.now + seconds)
        while wheel.slot < end:
            slot = min(wheel.next_busy(), end)
            self.now = wheel.time_of(slot) + SLOT_SECONDS / 10
            wheel.advance(slot, time.monotonic)
            self.host.poller.poll(self.now)
            self.host.clock._run_posted()
            for _ in range(3):
                await asyncio.sleep(0)
        self.seen["voice"] += len(self.phone.drain("audio"))
        self.seen["pictures"] += len(self.phone.drain("video"))
        self.phone.drain("audio_rtcp")
        self.phone.drain("video_rtcp")

    def audio(self, number: int, direction: str = "sendrecv") -> AudioParameters:
        codec, payload_type, _ = CODECS[number % len(CODECS)]
        event_rate = 48_000 if codec == "opus" else 8000
        keys = None
        if number % 5 == 4:
            keys = SrtpKeys("AES_CM_128_HMAC_SHA1_80", bytes([number % 256]) * 30, bytes(30))
        return AudioParameters(
            codec, payload_type, self.phone.address("audio"), self.phone.address("audio_rtcp"), 101,
            direction, keys=keys, telephone_event_rate=event_rate, voip_metrics=number % 3 == 0,
        )  # type: ignore[arg-type]  # fmt: skip

    def video(self, number: int) -> VideoParameters:
        feedback = [{"nack", "nack pli", "ccm fir", "ccm tmmbr", "goog-remb"}, set(), {"nack pli"}][
            number % 3
        ]
        return VideoParameters(
            96, self.phone.address("video"), *SIZE, FPS, (300_000, 1_000_000)[number % 2],
            feedback=frozenset(feedback), remote_rtcp=self.phone.address("video_rtcp"),
            rtx_payload_type=97 if number % 6 == 0 else None, every=1 + number % 2,
        )  # fmt: skip

    def speak(self, number: int) -> None:
        """The caller's own voice, keys and reports, each time from another source, and what strangers send."""
        session = self.calls._calls["a"].session
        to = ("127.0.0.1", session.audio_port)
        ssrc = 1000 + number
        for each in range(6):
            self.sequence += 1
            voice = packet.RtpPacket(
                CODECS[number % 4][1], self.sequence & 0xFFFF, self.sequence * 160, ssrc, bytes(160)
            )
            self.phone.audio.sendto(packet.build(voice), to)
            self.stranger.sendto(packet.build(replace(voice, ssrc=ssrc + each)), to)
        for marker, payload in event_payloads("5", 480, 160):
            self.sequence += 1
            event = packet.RtpPacket(101, self.sequence & 0xFFFF, number * 1000, ssrc, payload, marker)
            self.phone.audio.sendto(packet.build(event), to)
        ours = session.video.reports.ssrc if session.video is not None else 5
        block = rtcp.ReportBlock(ours, number % 250, 5, 70_000, 55, 0, 0)
        sent = rtcp.SenderReport(ssrc, number << 32, number, 2, 3, (block,))
        for streams in (
            (sent, rtcp.SourceDescription(ssrc, f"p{number}")),
            (rtcp.ReceiverReport(ssrc, (block,)), rtcp.PictureLoss(ssrc, ours)),
            (rtcp.ReceiverReport(ssrc, (block,)), rtcp.FullIntra(ssrc, ours, number % 256)),
            (rtcp.ReceiverReport(ssrc, (block,)), rtcp.Nack(ssrc, ours, tuple(range(number, number + 40)))),
            (rtcp.ReceiverReport(ssrc, ()), rtcp.BitrateLimit(ssrc, 100_000 + number, (ours,))),
            (rtcp.ReceiverReport(ssrc, ()), rtcp.BitrateLimit(ssrc, 100_000 + number, (ours,), temporary=True)),
        ):  # fmt: skip
            data = rtcp.build(*streams)
            self.phone.audio_rtcp.sendto(data, (to[0], to[1] + 1))
            if session.video_port:
                self.phone.video_rtcp.sendto(data, (to[0], session.video_port + 1))
                self.stranger.sendto(data, (to[0], session.video_port + 1))

    async def turns(self, number: int) -> None:
        """Four, the last one cut dry in the middle; in some rounds one has no server, one is interrupted."""
        disturbed = number % 125 < 15
        rate = CODECS[number % 4][2]
        lips, voice = np.ones(3200, "<i2").tobytes(), np.ones(rate // 5, "<i2").tobytes()
        for each in range(4):
            self.turn += 1
            self.servers.switch(disturbed and each == 1)
            self.calls.take(StartTurn("a", self.turn))
            self.calls.take(TurnAudio("a", self.turn, len(lips), lips + voice))
            await self.run(0.4 if each == 3 else 0.1)
            if disturbed and each == 2:
                self.calls.take(InterruptTurns("a"))
            self.calls.take(EndTurn("a", self.turn))
            await self.run(0.5)

    async def round(self, number: int) -> None:
        take = self.calls.take
        take(ConfigureCall("a", self.audio(number), self.video(number)))
        take(Listen("a", number % 2 == 0))
        await self.run(0.1)
        self.speak(number)
        await self.run(0.1)
        take(SendDigits("a", "12", 100))
        take(RequestKeyframe("a"))
        await self.turns(number)
        take(ConfigureCall("a", self.audio(number, "recvonly"), self.video(number)))  # hold
        await self.run(0.1)
        take(ConfigureCall("a", self.audio(number), None))  # the camera off
        take(OpenVideo("a"))
        take(CloseVideo("a"))
        take(OpenVideo("a"))
        self.calls.report(self.now)
        self.now += ROUND_S  # the machine slept
        self.host.clock.wheel.advance(self.host.clock.coming_slot, time.monotonic)
        assert not [message for message in self.told if isinstance(message, CallFailed)]


@pytest.fixture
async def long(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[LongCall]:
    long = LongCall(monkeypatch)
    yield long
    await long.calls.close()
    await long.host.close()
    long.phone.close()
    long.stranger.close()


@pytest.mark.slow
async def test_ten_hours_of_a_call_leave_no_more_than_one(long: LongCall) -> None:
    long.calls.take(OpenCall("a"))
    long.calls.take(ConfigureCall("a", long.audio(0), long.video(0)))
    long.calls.take(StartCall("a", "portrait"))
    await long.run(0.1)
    sizes = []
    seen: set[str] = set()
    for number in range(ROUNDS + 1):
        await long.round(number)
        seen |= {type(message).__name__ for message in long.told}
        seen |= {message.event for message in long.told if isinstance(message, TurnReport)}
        long.told.clear()
        if number in (WARM, ROUNDS):
            sizes.append(held(long, asyncio.all_tasks()))
    assert seen >= {
        Digit.__name__,
        Heard.__name__,
        "started",
        "stalled",
        "finished",
        "interrupted",
        "CallFigures",
    }
    assert long.seen["voice"] > 40 * ROUNDS and long.seen["pictures"] > 10 * ROUNDS
    before, after = sizes
    assert after.octets - before.octets < 50_000, before.grown_by(after)
    assert after.objects.total() - before.objects.total() < 200, before.grown_by(after)
    long.calls.take(CloseCall("a"))
    assert long.host.ports.in_use == 0
