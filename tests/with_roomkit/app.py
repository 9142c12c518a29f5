"""A RoomKit application with a telephone number and a face, in this process; its voice says prepared sounds."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from roomkit import AudioVideoChannel, RoomKit
from roomkit.models.event import AudioContent
from roomkit.video.backends.sip import SIPVideoBackend
from roomkit.voice.base import AudioChunk, VoiceSession
from roomkit.voice.pipeline import AudioPipelineConfig
from roomkit.voice.tts.base import TTSProvider

from testing.ports import free_port, free_ports

CHUNK_S = 0.1


class PreparedVoice(TTSProvider):  # type: ignore[misc]
    """Text to speech whose texts name prepared sounds; ``speed`` times faster than they are heard."""

    def __init__(self, rate: int = 8000, speed: float = 8.0) -> None:
        self.rate = rate
        self.speed = speed
        self.sounds: dict[str, NDArray[np.int16]] = {}

    @property
    def name(self) -> str:
        return "prepared"

    async def synthesize(self, text: str, *, voice: str | None = None) -> AudioContent:
        raise NotImplementedError

    async def synthesize_stream(
        self, text: str, *, voice: str | None = None, context: Any = None
    ) -> AsyncIterator[AudioChunk]:
        sound, size = self.sounds[text], round(self.rate * CHUNK_S)
        began = time.monotonic()
        for at in range(0, len(sound), size):
            yield AudioChunk(data=sound[at : at + size].tobytes(), sample_rate=self.rate)
            due = began + (at + size) / self.rate / self.speed
            await asyncio.sleep(max(0.0, due - time.monotonic()))


@dataclass
class App:
    """``uri`` is what phones dial; ``sessions`` are the calls so far."""

    kit: RoomKit
    backend: SIPVideoBackend
    channel: AudioVideoChannel
    voice: PreparedVoice
    uri: str
    sessions: list[VoiceSession] = field(default_factory=list)
    joined: list[VoiceSession] = field(default_factory=list)

    async def call(self, index: int = 0, within_s: float = 20.0) -> VoiceSession:
        """The nth call, once it is in its room."""
        async with asyncio.timeout(within_s):
            while len(self.joined) <= index:
                await asyncio.sleep(0.02)
        return self.joined[index]

    async def say(self, session: VoiceSession, sound: NDArray[np.int16]) -> None:
        """Say it; returns when it has been heard."""
        text = f"sound {len(self.voice.sounds)}"
        self.voice.sounds[text] = sound
        await self.channel.say(session, text)


@contextlib.asynccontextmanager
async def roomkit_app(
    make_channel: Callable[[SIPVideoBackend, dict[str, Any]], AudioVideoChannel],
    *,
    on_session: Callable[[App, VoiceSession], None] | None = None,
    before_join: Callable[[App, VoiceSession], Awaitable[None]] | None = None,
    speed: float = 8.0,
    rate: int = 8000,
    recorders: Callable[[], list[Any]] = list,
    supported_codecs: tuple[int, ...] = (0,),
    **backend_settings: Any,
) -> AsyncIterator[App]:
    """An application whose only channel is ``make_channel(backend, {tts, pipeline})``."""
    port = free_port()
    low = free_ports(42)
    backend = SIPVideoBackend(
        local_sip_addr=("127.0.0.1", port),
        local_rtp_ip="127.0.0.1",
        rtp_port_start=low,
        rtp_port_end=low + 40,
        supported_video_codecs=["H264"],
        supported_codecs=list(supported_codecs),
        **backend_settings,
    )
    voice = PreparedVoice(rate, speed)
    kit = RoomKit()
    channel = make_channel(backend, {"tts": voice, "pipeline": AudioPipelineConfig()})
    kit.register_channel(channel)
    app = App(kit, backend, channel, voice, f"sip:avatar@127.0.0.1:{port}")

    async def on_call(session: VoiceSession) -> None:
        app.sessions.append(session)
        if on_session is not None:
            on_session(app, session)
        await kit.create_room(room_id=session.id, recorders=recorders())
        await kit.attach_channel(session.id, channel.channel_id)
        if before_join is not None:
            await before_join(app, session)
        await kit.join(session.id, channel.channel_id, session=session)
        app.joined.append(session)

    backend.on_call(on_call)
    await backend.start()
    try:
        yield app
    finally:
        await kit.close()
        with contextlib.suppress(Exception):
            await backend.close()
