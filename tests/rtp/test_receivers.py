"""Our RTP at independent receivers: every picture comes out, and the voice is the one that was sent."""

from __future__ import annotations

import asyncio
import itertools
import time
from pathlib import Path

import numpy as np
import pytest

from bench.loss.gstreamer import gstreamer_call
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.worker.host import MediaHost
from testing.loop_face import LoopFace
from tests.peers.receivers import SIZE, Receiver, ffmpeg, gstreamer
from tests.support.media import card_body, read_card
from tests.support.waiting import until

pytest_plugins = ["tests.support.media_fixtures"]
pytestmark = pytest.mark.process
LOOP, PICTURES, HERTZ = 125, 40, 1000


class Tone:
    def read(self, number: int) -> np.ndarray:
        return (8000 * np.sin(2 * np.pi * HERTZ * (np.arange(160) + 160 * number) / 8000)).astype(np.int16)


async def shown(host: MediaHost, receiver: Receiver, mode: int) -> None:
    """Send to a receiver and check what it made of it."""
    session = host.session(Tone(), LoopFace(card_body(LOOP, *SIZE)))
    session.update(
        AudioParameters("PCMU", 0, ("127.0.0.1", receiver.port)),
        VideoParameters(
            96, ("127.0.0.1", receiver.port + 2), *SIZE, packetization_mode=mode, feedback=frozenset()
        ),
    )
    session.start()
    await until(lambda: receiver.process.returncode is None and len(receiver.pictures()) >= PICTURES, 60)
    stats = session.stats(time.monotonic())
    session.stop()
    numbers = [read_card(picture) for picture in receiver.pictures()[:PICTURES]]
    steps = [(b - a) % LOOP for a, b in itertools.pairwise(numbers)]
    # A loaded machine may leave pictures out at the sender: the receiver misses no other.
    assert steps.count(1) + stats.pictures_dropped >= len(steps)
    sound = receiver.sound()[4000:12000].astype(float)
    assert len(sound) > 4000
    spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound)))) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / 8000)
    assert spectrum[np.abs(hertz - HERTZ) < 30].sum() > 0.9 * spectrum.sum()


@pytest.mark.peer("ffmpeg")
@pytest.mark.parametrize("mode", [0, 1])
async def test_ffmpeg(host: MediaHost, tmp_path: Path, mode: int) -> None:
    async with ffmpeg(tmp_path, mode) as receiver:
        await asyncio.sleep(1.0)  # it listens a moment after it has started
        await shown(host, receiver, mode)


@pytest.mark.peer("gst-launch-1.0")
@pytest.mark.parametrize("mode", [0, 1])
async def test_gstreamer(host: MediaHost, tmp_path: Path, mode: int) -> None:
    async with gstreamer(tmp_path) as receiver:
        await asyncio.sleep(1.0)
        await shown(host, receiver, mode)


@pytest.mark.slow
@pytest.mark.peer("gst-launch-1.0")
async def test_gstreamer_asks_for_what_is_lost_and_gets_it() -> None:
    result = await gstreamer_call(0.05, seconds=6, rtt=0.05)
    assert result.lost > 0.01
    assert result.nacked > 0 and result.retransmitted > 0
    assert result.retransmitted >= 0.9 * result.nacked
    assert result.video.corrupt == 0
    assert result.video.shown >= 0.97 * result.in_time, str(
        result
    )  # how many those are is the bench's to say
