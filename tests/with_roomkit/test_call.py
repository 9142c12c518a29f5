"""Calls into a RoomKit application whose face is ours: what the phone sees and hears."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from roomkit import AudioVideoChannel
from roomkit.video.pipeline.encoder.pyav import PyAVVideoEncoder

from testing.caller import Phone
from testing.card import CardReading, read_card
from tests.peers.baresip import Baresip, baresip
from tests.support.house import picture, tone
from tests.support.servers import InferenceServer, running_server, start_inference_server
from tests.with_roomkit.app import App, roomkit_app
from tests.with_roomkit.lag import lips, onsets
from visavis import AvatarVideoChannel, GrpcAvatarProvider, HTTPAvatarProvider, stop_lips_with_voice
from visavis.roomkit.provider import ServerAvatarProvider

pytestmark = [
    pytest.mark.peer("baresip", "ffmpeg"),
    pytest.mark.slow,
    pytest.mark.process,
    pytest.mark.usefixtures("providers_loop"),
]

SIZE, FPS = 320, 30
FACES = ["grpc", "http"]


def provider_of(kind: str, server: InferenceServer, tmp_path: Path, **options: Any) -> ServerAvatarProvider:
    """A provider over one of the server's faces."""
    options = {"fps": FPS, "cache_directory": tmp_path / "bodies", "connect_timeout": 20.0} | options
    if kind == "grpc":
        return GrpcAvatarProvider(server.address, **options)
    return HTTPAvatarProvider(f"http://127.0.0.1:{server.http_port}", **options)


def encoder(_: object = None) -> PyAVVideoEncoder:
    return PyAVVideoEncoder(width=SIZE, height=SIZE, fps=FPS, preset="ultrafast")


@asynccontextmanager
async def stock_app(
    face: ServerAvatarProvider, *, attach: bool = True, **settings: Any
) -> AsyncIterator[App]:
    """RoomKit's own channel with one provider."""
    await face.start(picture(), width=SIZE, height=SIZE)

    def channel(backend: Any, voice: dict[str, Any]) -> AudioVideoChannel:
        return AudioVideoChannel("voice", backend=backend, avatar=face, avatar_encoder=encoder(), **voice)

    def on_session(app: App, session: Any) -> None:
        if attach:
            face.attach(app.backend, session)

    async with roomkit_app(channel, on_session=on_session, **settings) as app:
        stop_lips_with_voice(app.kit, face)
        try:
            yield app
        finally:
            await face.close()


async def seen(phone: Baresip, wanted: Callable[[CardReading], bool], within_s: float = 20.0) -> CardReading:
    """Snapshots until one is what is waited for."""
    readings: list[CardReading | None] = []
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        image = cv2.imread(str(await phone.snapshot()))
        readings.append(read_card(image[..., ::-1]) if image is not None else None)
        if readings[-1] is not None and wanted(readings[-1]):
            return readings[-1]
    raise AssertionError(f"never seen: {readings[-5:]}")


async def test_baresip_sees_the_face_idle_speaking_and_idle_again(tmp_path: Path) -> None:
    async with (
        running_server() as server,
        stock_app(provider_of("http", server, tmp_path)) as app,
        baresip(tmp_path / "phone") as phone,
    ):
        await phone.command("dial", app.uri)
        await phone.wait("CALL_ESTABLISHED")
        session = await app.call()
        before = await seen(phone, lambda card: card.mouth is None)
        speaking = asyncio.create_task(app.say(session, tone(6, rate=8000)))
        talking = await seen(phone, lambda card: card.mouth is not None)
        assert talking.mouth is not None and talking.mouth.loop_index == talking.loop_index
        assert talking.number == before.number
        await speaking
        after = await seen(phone, lambda card: card.mouth is None)
        moved = await seen(phone, lambda card: card.mouth is None and card.loop_index != after.loop_index)
        assert moved.number == before.number


def voice_lag(phone: Phone, turn: int = 0) -> list[float]:
    """Milliseconds by which each mouth of a turn is behind its sound, its first second left out."""
    return [m.lag * 1000 for m in lips(phone.recording, FPS, turn) if m.frame > FPS]


async def speak_once(app: App, seconds: float = 5.0) -> Phone:
    async with Phone(app.uri) as phone:
        session = await app.call()
        await asyncio.sleep(1)
        await app.say(session, tone(seconds, rate=8000))
        await asyncio.sleep(1)
    return phone


@pytest.mark.parametrize("kind", FACES)
async def test_lips_are_with_the_voice(kind: str, tmp_path: Path) -> None:
    """A voice that starts late (a deep prebuffer, as phone gateways want it): lips start with it."""
    lag, last = {}, 0
    async with running_server() as server:
        for attach in (False, True):
            face = provider_of(kind, server, tmp_path)
            async with stock_app(face, attach=attach, speed=3.0, pacer_prebuffer_ms=900) as app:
                phone = await speak_once(app)
            lag[attach] = voice_lag(phone)
            last = max(m.frame for m in lips(phone.recording, FPS))
    for attach, values in lag.items():
        median, high = np.percentile(values, (50, 95))
        print(
            f"{kind} attach={attach}: lag median {median:.0f} ms, p95 {high:.0f} ms, {len(values)} pictures"
        )
    assert last > 4.3 * FPS  # of 5 s; RoomKit by itself stops showing 2 s after the last audio was fed
    assert abs(float(np.median(lag[True]))) <= 40
    assert float(np.median(lag[False])) < -100  # what attaching is for


async def test_the_mouth_stops_with_a_voice_that_is_cut(tmp_path: Path) -> None:
    async with running_server() as server, stock_app(provider_of("http", server, tmp_path)) as app:
        async with Phone(app.uri) as phone:
            session = await app.call()
            await asyncio.sleep(1)
            speaking = asyncio.create_task(app.say(session, tone(8, rate=8000)))
            await asyncio.sleep(3)
            cut = time.monotonic()
            await app.channel.interrupt(session)
            await speaking
            await asyncio.sleep(1.5)
            again = len(phone.recording.audio.packets)
            await app.say(session, tone(3, rate=8000))
            assert len(phone.recording.audio.packets) - again > 100
        mouths = lips(phone.recording, FPS)
        assert len(mouths) > 30
        assert max(m.arrived for m in mouths) - cut < 0.6
        assert abs(float(np.median(voice_lag(phone, 1)))) <= 40


async def test_two_calls_on_one_channel_are_two(tmp_path: Path) -> None:
    made: list[ServerAvatarProvider] = []
    async with running_server() as server:

        async def avatar(session: Any) -> ServerAvatarProvider:
            face = provider_of("http", server, tmp_path)
            made.append(face)
            await face.start(picture(len(made)), width=SIZE, height=SIZE)
            return face

        def channel(backend: Any, voice: dict[str, Any]) -> AvatarVideoChannel:
            return AvatarVideoChannel(
                "voice", backend=backend, avatar_factory=avatar, encoder_factory=encoder, **voice
            )

        async with roomkit_app(channel, speed=1.0) as app:  # the hardest voice: no faster than it is heard
            heard: dict[str, int] = {}
            app.channel.add_media_tap(lambda s, f: heard.update({s.id: heard.get(s.id, 0) + 1}))
            async with Phone(app.uri) as first:
                await app.call(0)
                async with Phone(app.uri) as second:
                    sessions = [await app.call(0), await app.call(1)]
                    assert isinstance(app.channel, AvatarVideoChannel)
                    async with asyncio.timeout(20):
                        while not all(app.channel.provider(s) for s in sessions):
                            await asyncio.sleep(0.05)
                    await asyncio.sleep(1)
                    low, high = tone(5, 300, 8000), tone(5, 900, 8000)
                    await asyncio.gather(app.say(sessions[0], low), app.say(sessions[1], high))
                    await asyncio.sleep(1)
            phones = (first, second)
            numbers = [{c.number for c in cards(phone)} for phone in phones]
            assert [len(n) for n in numbers] == [1, 1] and numbers[0] != numbers[1]
            for phone, hertz in zip(phones, (300, 900), strict=True):
                assert abs(pitch(phone) - hertz) < 20
                assert abs(float(np.median(voice_lag(phone)))) <= 40
            assert all(heard.get(s.id, 0) > 50 for s in sessions)  # what each caller says arrives
        assert not any(face.is_started for face in made)


def cards(phone: Phone) -> list[CardReading]:
    read = [read_card(frame.image) for frame in phone.recording.frames()]
    return [card for card in read if card is not None]


def pitch(phone: Phone) -> float:
    samples = phone.recording.samples().astype(float)
    loud = samples[np.abs(samples).cumsum() > 0][:16000]
    spectrum = np.abs(np.fft.rfft(loud * np.hanning(len(loud))))
    return float(np.argmax(spectrum) * 8000 / len(loud))


@pytest.mark.parametrize("kind", FACES)
async def test_a_lost_server_costs_lips_and_never_the_voice(kind: str, tmp_path: Path) -> None:
    server = await start_inference_server(cache_dir=tmp_path / "server")
    again: InferenceServer | None = None
    try:
        async with stock_app(provider_of(kind, server, tmp_path)) as app:
            async with Phone(app.uri) as phone:
                session = await app.call()
                await asyncio.sleep(1)
                speaking = asyncio.create_task(app.say(session, tone(16, rate=8000)))
                await asyncio.sleep(3)
                server.kill()
                await server.process.wait()
                killed = time.monotonic()
                ports = {"port": int(server.address.rpartition(":")[2]), "http_port": server.http_port}
                again = await start_inference_server(cache_dir=tmp_path / "server", **ports)
                ready = time.monotonic()
                await speaking
                await asyncio.sleep(0.5)
            arrivals = np.array([p.arrived for p in phone.recording.audio.ordered()])
            start = onsets(phone.recording)[0]
            during = arrivals[(arrivals > start + 0.5) & (arrivals < start + 15.5)]
            mouths = [m.arrived for m in lips(phone.recording, FPS)]
            back = min((m for m in mouths if m > killed + 0.5), default=float("inf")) - ready
            print(
                f"{kind}: longest pause of the voice {np.diff(during).max() * 1000:.0f} ms, lips {back:.2f} s after"
            )
            assert len(phone.recording.samples()) >= 15.9 * 8000
            assert np.diff(during).max() < 1.5  # of a loaded machine, which also starts a server meanwhile
            assert back <= 2.0
    finally:
        for one in (server, again):
            if one is not None:
                one.kill()
                await one.process.wait()
                if one.follower is not None:
                    await one.follower
