"""A Pipecat bot with a face: ``python examples/pipecat_avatar.py 127.0.0.1:50051 portrait.jpg speech.wav``.
Says a WAV and counts what comes. In a bot, text to speech stands before the service, ``transport.output()`` behind.
"""

import asyncio
import sys
import wave
from pathlib import Path

from pipecat.frames.frames import EndFrame, Frame, OutputImageRawFrame, TTSAudioRawFrame, TTSStoppedFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.workers.runner import WorkerRunner

from visavis.pipecat import VisavisVideoService


class Count(FrameProcessor):
    pictures, seconds = 0, 0.0

    async def process_frame(self, frame: Frame, direction: FrameDirection) -> None:
        await super().process_frame(frame, direction)
        self.pictures += isinstance(frame, OutputImageRawFrame)
        self.seconds += frame.num_frames / frame.sample_rate if isinstance(frame, TTSAudioRawFrame) else 0
        await self.push_frame(frame, direction)


async def main(servers: str, image: str, speech: str) -> None:
    face, count = VisavisVideoService(servers, Path(image).read_bytes()), Count()
    worker = PipelineWorker(Pipeline([face, count]))
    with wave.open(speech) as file:
        voice = TTSAudioRawFrame(file.readframes(file.getnframes()), file.getframerate(), 1)
    await worker.queue_frames([voice, TTSStoppedFrame(), EndFrame()])
    await (runner := WorkerRunner()).add_workers(worker)
    await runner.run()
    print(f"{count.pictures} pictures, {count.seconds:.2f} s of speech")


asyncio.run(main(*sys.argv[1:4])) if len(sys.argv) == 4 else sys.exit(__doc__)
