"""Lag of the lips in Pipecat: ``python -m bench.frameworks.pipecat``, in the environment of ``make test-pipecat``.

Pictures and sound are taken where the output transport would stand.
"""

from __future__ import annotations

import asyncio
import os
import tempfile

import numpy as np
from pipecat.frames.frames import (
    EndFrame,
    Frame,
    OutputImageRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from bench.frameworks.lag import FPS, RATE, SIZE, SPEEDS, Arrivals, voice
from tests.support.house import picture
from tests.support.servers import running_server
from visavis.pipecat import VisavisVideoService


class Sink(FrameProcessor):
    """Stands for the transport."""

    def __init__(self) -> None:
        super().__init__(enable_direct_mode=True)
        self.seen = Arrivals()

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        """Note what comes."""
        await super().process_frame(frame, direction)
        if isinstance(frame, OutputImageRawFrame):
            self.seen.picture(np.frombuffer(frame.image, np.uint8).reshape(SIZE, SIZE, 3))
        elif isinstance(frame, TTSAudioRawFrame):
            self.seen.sound(frame.num_frames)
        await self.push_frame(frame, direction)


async def measured(address: str, speed: float) -> str:
    """One reply."""
    face = VisavisVideoService(address, picture(), width=SIZE, height=SIZE, fps=FPS)
    sink = Sink()
    worker = PipelineWorker(Pipeline([face, sink]), params=PipelineParams(audio_out_sample_rate=RATE))

    async def talk() -> None:
        while len(sink.seen.pictures) < FPS:  # noqa: ASYNC110 - a moment
            await asyncio.sleep(0.02)
        await worker.queue_frame(TTSStartedFrame())
        async for piece in voice(speed):
            await worker.queue_frame(TTSAudioRawFrame(piece.tobytes(), RATE, 1))
        await worker.queue_frames([TTSStoppedFrame(), EndFrame()])

    runner = WorkerRunner()
    await runner.add_workers(worker)
    await asyncio.gather(runner.run(), talk())
    return sink.seen.report()


async def main() -> None:
    """Both voices."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        async with running_server() as server:
            for speed in SPEEDS:
                print(f"Pipecat, voice {speed:g}x: {await measured(server.address, speed)}", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
