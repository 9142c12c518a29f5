"""A whole call, phone to phone, whose mouth a tiny MuseTalk draws; and what the server says without weights."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from testing.caller import Phone
from testing.caller.movie import aligned
from tests.musetalk.support import checkpoint, settings, speech
from tests.support.house import orchestrator
from tests.support.portraits import IRIS
from tests.support.servers import inference_server, running_server

pytestmark = [pytest.mark.process, pytest.mark.torch]

FACE = IRIS


@pytest.mark.slow
async def test_idle_speech_idle() -> None:
    """The mouth is drawn while the voice is heard and is the body's own before and after."""
    engine_settings = settings(cache_dir=str(checkpoint().parent / "call"), batch_size="4")
    house_settings = {"portrait": FACE.read_bytes(), "size": "256x256"}
    async with (
        inference_server(engine="musetalk", engine_settings=engine_settings, batch_ms=200, slots=1) as server,
        orchestrator([server], fps=25, **house_settings) as house,
    ):
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            await house.idle_cached(call)
            await asyncio.sleep(1.0)
            turn = await house.play(call, [(0.0, speech(2.0))])
            assert (await house.turn(call, turn))["state"] == "finished"
            await asyncio.sleep(2.0)
            media = (await house.call(call))["media"]
        frames = phone.recording.frames()
        times = np.array(aligned(phone.recording, frames))
        sound = np.abs(phone.recording.samples()) > 500
        heard = np.flatnonzero(sound) / 8000
    pictures = np.stack([f.image.astype(np.int16) for f in frames])
    idle = pictures[times < heard[0] - 0.5]
    assert len(idle) >= 5
    rest = np.median(idle, axis=0)
    apart = np.abs(pictures - rest)[:, 140:180, 100:156].mean(axis=(1, 2, 3))  # the lower face
    speaking = (times >= heard[0] + 0.1) & (times <= heard[-1] - 0.1)
    silent = (times < heard[0] - 0.3) | (times > heard[-1] + 0.9)
    limit = 1.25 * np.percentile(apart[silent], 95)  # the head turns
    drawn = pictures[speaking & (apart > limit)]
    # Each frame of the two seconds is shown or, where a loaded machine drew it too late, told to be.
    assert media["frames_shown"] + media["frames_late"] >= 48
    # The phone sees what is shown, but for both edges and for pictures that a loaded machine left out.
    assert len(drawn) >= 0.8 * (media["frames_shown"] - media["pictures_dropped"] - 8)
    assert len(np.unique(drawn.reshape(len(drawn), -1), axis=0)) >= 3  # and it moves
    assert (apart[times > heard[-1] + 0.9] <= limit).mean() > 0.9


async def test_a_server_without_weights_is_not_ready_and_says_which(tmp_path: Path) -> None:
    values = settings(musetalk_dir=str(tmp_path))
    async with running_server(engine="musetalk", engine_settings=values, ready=False) as server:
        told = await server.event("engine_down")
    words = " ".join(str(v) for v in told.values())
    assert "7 of 7 MuseTalk files" in words
    assert "musetalkV15/unet.pth" in words
