"""The examples for RoomKit users, run as they run them."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from examples.custom_provider import MyAvatarProvider
from testing.caller import Phone
from testing.caller.recording import G711
from testing.card import read_card
from testing.ports import free_port
from tests.support.house import picture, tone
from tests.support.servers import ROOT, running_server
from tests.support.speech import speech

pytestmark = pytest.mark.peer
RATE = 8000


@contextlib.asynccontextmanager
async def example(*command: object) -> AsyncIterator[asyncio.subprocess.Process]:
    """An example that says when calls can come."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", *map(str, command)),
        cwd=ROOT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(90):
            while b"all sip:" not in await process.stdout.readline():
                assert process.returncode is None
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


async def mouths(phone: Phone) -> tuple[int, int]:
    """Pictures of the card, and those of them with a mouth."""
    cards = [read_card(f.image) for f in phone.recording.frames()]
    return sum(c is not None for c in cards), sum(c is not None and c.mouth is not None for c in cards)


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.peer("espeak-ng")
async def test_the_whole_agent_talks_without_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSE_RUNTIME_PATH", str(tmp_path / "pulse"))  # espeak-ng opens it even for --stdout
    port = free_port()
    words = speech("No, wait, I want to ask you something else.", RATE)
    recordings = tmp_path / "recordings"
    async with running_server() as server:
        where = ["--sip-host", "127.0.0.1", "--sip-port", port, "--rtp-ip", "127.0.0.1"]
        ports = ["--rtp-port", 30_000 + port % 100 * 100, "--recordings", recordings, "--encrypted-at-rest"]
        face = ["--avatar-url", f"http://127.0.0.1:{server.http_port}", "--size", "320x320"]
        async with example("examples.avatar_call", "--offline", *where, *ports, *face):
            async with Phone(f"sip:avatar@127.0.0.1:{port}") as phone:
                async with asyncio.timeout(40):
                    while not np.abs(phone.recording.samples()[-8000:]).max(initial=0) > 1000:
                        await asyncio.sleep(0.2)
                phone.microphone.speak(words)
                await asyncio.sleep(8)
            began, ended = phone.microphone.began[0], phone.microphone.ended[0]
            loud = [
                packet.arrived
                for packet in phone.recording.audio.ordered()
                if np.abs(G711["PCMU"][np.frombuffer(packet.payload, np.uint8)]).max() > 300
            ]
            assert [at for at in loud if at < began + 0.2]
            assert not [at for at in loud if began + 1.5 < at < ended]  # it stops while the caller speaks
            assert [at for at in loud if at > ended]  # and the script goes on
            pictures, speaking = await mouths(phone)
            assert pictures > 60 and speaking > 30
            async with asyncio.timeout(20):
                while not any(p.stat().st_size for p in recordings.rglob("*.mp4")):
                    await asyncio.sleep(0.2)


@pytest.mark.process
@pytest.mark.slow
async def test_the_quick_start_shows_the_face(tmp_path: Path) -> None:
    image = tmp_path / "portrait.png"
    image.write_bytes(picture())
    port = free_port()
    async with running_server() as server:
        url = f"http://127.0.0.1:{server.http_port}"
        async with (
            example("examples.quickstart_roomkit", image, url, port),
            Phone(f"sip:avatar@127.0.0.1:{port}") as phone,
        ):
            await asyncio.sleep(4)
        pictures, speaking = await mouths(phone)
        assert pictures > 30 and not speaking


async def test_the_provider_of_ones_own_follows_the_voice() -> None:
    face = MyAvatarProvider()
    await face.start(b"", width=32, height=32)
    loud = face.feed_audio(tone(0.5).tobytes())
    quiet = face.feed_audio(bytes(16_000))
    assert len(loud) == 15 and len(quiet) == 15
    assert loud[3].data.count(bytes((230, 80, 60))) > quiet[3].data.count(bytes((230, 80, 60)))
    assert len(face.flush()) == 1
    await face.stop()
    assert face.get_idle_frame() is None
