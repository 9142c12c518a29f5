"""The example, run as an agent's worker runs it, in a room without a network."""

from __future__ import annotations

import asyncio
import runpy
import wave
from pathlib import Path
from types import SimpleNamespace

import pytest
from livekit import rtc
from livekit.agents import AgentSession

from tests.support.house import tone
from tests.support.servers import ROOT, running_server
from tests.with_livekit.room import Room
from visavis.livekit import VisavisAvatarSession

EXAMPLE = ROOT / "examples" / "livekit_avatar.py"

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("livekit_runtime")]


async def test_the_example_speaks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    speech = tmp_path / "speech.wav"
    with wave.open(str(speech), "wb") as file:
        file.setparams((1, 2, 24_000, 0, "NONE", ""))
        file.writeframes(tone(2, rate=24_000).tobytes())
    shown: list[rtc.VideoFrame] = []
    heard: list[rtc.AudioFrame] = []
    capture = rtc.AudioSource.capture_frame

    async def sound(self: rtc.AudioSource, frame: rtc.AudioFrame) -> None:
        heard.append(frame)
        await capture(self, frame)

    running: list[AgentSession | VisavisAvatarSession] = []
    start = VisavisAvatarSession.start

    async def started(self: VisavisAvatarSession, session: AgentSession, room: Room) -> None:
        running.extend((session, self))
        await start(self, session, room)

    monkeypatch.setattr(VisavisAvatarSession, "start", started)
    monkeypatch.setattr(rtc.VideoSource, "capture_frame", lambda _, frame: shown.append(frame))
    monkeypatch.setattr(rtc.AudioSource, "capture_frame", sound)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SPEECH", str(speech))
    async with running_server() as server:
        monkeypatch.setenv("VISAVIS_SERVERS", server.address)
        entrypoint = runpy.run_path(str(EXAMPLE))["entrypoint"]
        async with asyncio.timeout(60):
            await entrypoint(SimpleNamespace(room=Room()))
            while sum(frame.samples_per_channel for frame in heard) < 48_000:
                await asyncio.sleep(0.02)
            for one in running:  # what a worker does at the end of a job
                await one.aclose()
    assert len(shown) > 50 and {(frame.width, frame.height) for frame in shown} == {(512, 512)}
