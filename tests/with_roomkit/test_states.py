"""What a face does while RoomKit hears the caller: its own pipeline and hooks, a backend without a network."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from roomkit import AudioVideoChannel, RoomKit
from roomkit.voice.audio_frame import AudioFrame
from roomkit.voice.backends.mock import MockVoiceBackend
from roomkit.voice.pipeline import AudioPipelineConfig
from roomkit.voice.pipeline.vad.energy import EnergyVADProvider
from roomkit.voice.realtime.mock import MockRealtimeProvider

from tests.support.fake_server import HEIGHT, WIDTH, entered, fake_server, of_segments
from visavis import AvatarVideoChannel, GrpcAvatarProvider, listen_to_caller, listen_to_speech
from visavis.roomkit.types import VideoFrame

pytestmark = pytest.mark.usefixtures("providers_loop")

LISTENS, IDLES = {"breath", "tilt", "lift"}, {"breath", "tilt"}


@contextlib.asynccontextmanager
async def provider(tmp_path: Path) -> AsyncIterator[GrpcAvatarProvider]:
    async with fake_server(of_segments()) as server:
        face = GrpcAvatarProvider(
            server.address, fps=25, codec="raw_yuv420p", cache_directory=tmp_path, connect_timeout=10.0
        )
        await face.start(b"image of anna", width=WIDTH, height=HEIGHT)
        try:
            yield face
        finally:
            await face.close()


def look(face: GrpcAvatarProvider, ticks: int = 1000) -> list[str]:
    """The segments that the body goes into, as fast as it is asked."""
    frames: list[VideoFrame | None] = [face.get_idle_frame() for _ in range(ticks)]
    return entered([frame.data[0] - 16 for frame in frames if frame is not None])


class Caller:
    """Speaks into RoomKit's pipeline, in real time."""

    def __init__(self, backend: MockVoiceBackend, session: Any) -> None:
        self._backend, self._session = backend, session
        self._random = np.random.default_rng(1)

    async def speak(self, seconds: float, level: float = 4000) -> None:
        for _ in range(round(seconds * 50)):
            sound = self._random.normal(0, level, 320).astype(np.int16)
            frame = AudioFrame(data=sound.tobytes(), sample_rate=16_000)
            await self._backend.simulate_audio_received(self._session, frame)
            await asyncio.sleep(0.02)

    async def be_quiet(self, seconds: float) -> None:
        await self.speak(seconds, 1)


@contextlib.asynccontextmanager
async def call(channel: AudioVideoChannel, backend: MockVoiceBackend, kit: RoomKit) -> AsyncIterator[Caller]:
    kit.register_channel(channel)
    await kit.create_room(room_id="room")
    await kit.attach_channel("room", "voice")
    session = await backend.connect("room", "caller", "voice")
    await kit.join("room", "voice", session=session)
    try:
        yield Caller(backend, session)
    finally:
        await kit.close()


def hearing() -> AudioPipelineConfig:
    return AudioPipelineConfig(vad=EnergyVADProvider())


async def watch(face: GrpcAvatarProvider, caller: Caller) -> None:
    assert set(look(face)) == IDLES
    await caller.speak(2)
    assert set(look(face)[1:]) == LISTENS
    for _ in range(20):
        await caller.be_quiet(0.1)
        if "nod" in look(face, 100):
            break
    else:
        raise AssertionError("it did not nod")
    await caller.be_quiet(1)
    assert set(look(face)[1:]) == {"away", "tilt"}  # it seems to think


async def test_the_one_provider_of_a_channel_hears_the_caller(tmp_path: Path) -> None:
    async with provider(tmp_path) as face:
        backend, kit = MockVoiceBackend(), RoomKit()
        channel = AudioVideoChannel("voice", backend=backend, avatar=face, pipeline=hearing())
        listen_to_caller(kit, face)
        async with call(channel, backend, kit) as caller:
            await watch(face, caller)


async def test_every_call_of_a_channel_has_a_face_that_hears_its_own_caller(tmp_path: Path) -> None:
    async with provider(tmp_path) as face:
        backend, kit = MockVoiceBackend(), RoomKit()
        backend.video = SimpleNamespace(get_session=lambda _: object())  # every call has video
        shown: list[int] = []

        def encode(frame: VideoFrame) -> list[bytes]:
            shown.append(frame.data[0] - 16)
            return []

        channel = AvatarVideoChannel(
            "voice",
            backend=backend,
            pipeline=hearing(),
            avatar_factory=lambda _: face,
            encoder_factory=lambda _: SimpleNamespace(encode=encode, close=lambda: None),
        )
        listen_to_caller(kit, channel)
        async with call(channel, backend, kit) as caller:
            await caller.be_quiet(1)
            assert shown and set(entered(shown)) <= IDLES
            await caller.speak(0.8)
            start = len(shown)
            await caller.speak(2)
            assert len(set(entered(shown[start:]))) > 1 and set(entered(shown[start:])) <= LISTENS
            start = len(shown)
            await caller.be_quiet(1.5)
            assert entered(shown[start:]).count("nod") == 1
            start = len(shown)
            await caller.be_quiet(1.5)
            assert set(entered(shown[start:])) == {"away", "tilt"}


async def test_the_provider_of_a_speech_to_speech_model_tells_of_its_caller(tmp_path: Path) -> None:
    async with provider(tmp_path) as face:
        model = MockRealtimeProvider()
        listen_to_speech(model, face)
        session: Any = SimpleNamespace(id="call")
        await model.simulate_speech_start(session)
        assert set(look(face)[1:]) == LISTENS
        await asyncio.sleep(1.1)
        await model.simulate_speech_end(session)
        assert look(face).count("nod") == 1
