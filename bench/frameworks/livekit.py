"""Lag of the lips in LiveKit: ``python -m bench.frameworks.livekit``, in the environment of ``make test-livekit``.

Pictures and sound are taken as LiveKit's runner hands them to its sources; the room has no network.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from typing import Any

import numpy as np
from livekit import rtc

from bench.frameworks.lag import RATE, SPEEDS, Arrivals, voice
from tests.support.servers import running_server
from tests.with_livekit.room import show


def watch(runner: Any) -> Arrivals:
    """What goes to the sources."""
    seen = Arrivals()
    video, audio = runner._video_source, runner._audio_source
    show_picture, play = video.capture_frame, audio.capture_frame

    def picture(frame: rtc.VideoFrame, **options: Any) -> None:
        luma = np.frombuffer(frame.data, np.uint8)[: frame.width * frame.height]
        seen.picture(luma.reshape(frame.height, frame.width).copy())
        show_picture(frame, **options)

    async def sound(frame: rtc.AudioFrame) -> None:
        seen.sound(frame.samples_per_channel)
        await play(frame)

    video.capture_frame, audio.capture_frame = picture, sound
    return seen


async def measured(address: str, speed: float) -> str:
    """One reply."""
    async with show(address, judged=False) as there:
        seen = watch(there.runner)
        await asyncio.sleep(1)
        async for piece in voice(speed):
            await there.output.capture_frame(rtc.AudioFrame(piece.tobytes(), RATE, 1, len(piece)))
        there.output.flush()
        await there.until(lambda: there.finished)
        await asyncio.sleep(0.5)
    return seen.report()


async def main() -> None:
    """Both voices."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        async with running_server() as server:
            for speed in SPEEDS:
                print(f"LiveKit, voice {speed:g}x: {await measured(server.address, speed)}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
