"""RoomKit's ``RealtimeAVBridge`` with a face: a provider that is spoken for, RoomKit's bridge, our phone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from roomkit.video.backends.sip import SIPVideoBackend
from roomkit.video.pipeline.encoder.pyav import PyAVVideoEncoder
from roomkit.voice.realtime.bridge import RealtimeAVBridge
from roomkit.voice.realtime.mock import MockRealtimeProvider

from testing.caller import Phone
from testing.card import read_card
from testing.ports import free_port, free_ports
from tests.support.house import picture, tone
from tests.support.servers import running_server
from tests.with_roomkit.lag import lips, onsets
from visavis import HTTPAvatarProvider, stop_lips_with_speech

pytestmark = [
    pytest.mark.process,
    pytest.mark.slow,
    pytest.mark.peer,
    pytest.mark.usefixtures("providers_loop"),
]

SIZE, FPS, RATE = 320, 30, 24_000


class Talk:
    """``provider`` says what the test wants; ``session`` is the call's, once there is one."""

    def __init__(self, provider: MockRealtimeProvider, backend: SIPVideoBackend, uri: str) -> None:
        self.provider, self.backend, self.uri = provider, backend, uri
        self.called = asyncio.Event()
        self.session: Any = None

    async def say(self, sound: NDArray[np.int16]) -> None:
        """As fast as a speech-to-speech model does: three times real time."""
        for at in range(0, len(sound), RATE // 10):
            await self.provider.simulate_audio(self.session, sound[at : at + RATE // 10].tobytes())
            await asyncio.sleep(0.033)
        await self.provider.simulate_response_end(self.session)


@contextlib.asynccontextmanager
async def bridged(tmp_path: Path) -> AsyncIterator[Talk]:
    """An application as docs/roomkit.md has it."""
    port, low = free_port(), free_ports(42)
    async with running_server() as server:
        avatar = HTTPAvatarProvider(
            f"http://127.0.0.1:{server.http_port}",
            fps=FPS,
            sample_rate=RATE,
            continuous=True,
            connect_timeout=20.0,
            cache_directory=tmp_path,
        )
        await avatar.start(picture(), width=SIZE, height=SIZE)
        backend = SIPVideoBackend(
            local_sip_addr=("127.0.0.1", port),
            local_rtp_ip="127.0.0.1",
            rtp_port_start=low,
            rtp_port_end=low + 40,
            supported_video_codecs=["H264"],
            supported_codecs=[0],
        )
        provider = MockRealtimeProvider()
        talk = Talk(provider, backend, f"sip:avatar@127.0.0.1:{port}")

        def on_call(session: Any) -> None:
            avatar.attach(backend, session)
            talk.session = session
            talk.called.set()

        bridge = RealtimeAVBridge(
            provider,
            backend,
            avatar=avatar,
            encoder=PyAVVideoEncoder(avatar.width, avatar.height, avatar.fps, preset="ultrafast"),
            video_fps=avatar.fps,
            provider_sample_rate=RATE,
            on_call=on_call,
        )
        stop_lips_with_speech(provider, avatar, backend)
        await backend.start()
        try:
            yield talk
        finally:
            await bridge.close()
            await backend.close()


async def test_the_face_is_there_before_the_first_word_and_between_replies(tmp_path: Path) -> None:
    async with bridged(tmp_path) as talk:
        async with Phone(talk.uri) as phone:
            await asyncio.wait_for(talk.called.wait(), 20)
            await asyncio.sleep(2)
            for _ in range(2):
                await talk.say(tone(3, rate=RATE))
                await asyncio.sleep(4)
        recording = phone.recording
        frames = list(recording.frames())
        first, second = onsets(recording)[:2]
        cards = [(frame.arrived, read_card(frame.image)) for frame in frames]
        before = [card for at, card in cards if at < first - 0.2 and card is not None]
        between = [card for at, card in cards if first + 4 < at < second - 0.5 and card is not None]
        for idle in (before, between):
            assert len(idle) > 15 and all(card.mouth is None for card in idle)
            assert len({card.loop_index for card in idle}) > 10  # it moves
        for turn in (0, 1):
            mouths = lips(recording, FPS, turn)
            assert len(mouths) > 45 and max(m.frame for m in mouths) > 2.5 * FPS  # at full speed: 24 kHz
            lag = float(np.median([m.lag * 1000 for m in mouths if m.frame > FPS]))
            print(f"reply {turn}: lag {lag:+.0f} ms, {len(mouths)} pictures")
            assert abs(lag) <= 40


async def test_voice_and_mouth_stop_where_the_caller_speaks_up(tmp_path: Path) -> None:
    async with bridged(tmp_path) as talk:
        async with Phone(talk.uri) as phone:
            await asyncio.wait_for(talk.called.wait(), 20)
            await asyncio.sleep(1)
            speaking = asyncio.create_task(talk.say(tone(9, rate=RATE)))
            await asyncio.sleep(2.5)
            speaking.cancel()
            clock = asyncio.get_running_loop().time()
            await talk.provider.simulate_speech_start(talk.session)
            await asyncio.sleep(2)
        mouths = lips(phone.recording, FPS)
        assert len(mouths) > 20
        assert max(m.arrived for m in mouths) - clock < 0.6
        loud = [p.arrived for p in phone.recording.audio.ordered() if len(set(p.payload)) > 4]
        assert max(loud) - clock < 0.6
