"""The recorder: ``python -m orchestrator.recording.process --channel N`` writes the recordings of all calls."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
from pathlib import Path
from typing import BinaryIO

import av

from orchestrator.recording.call_recording import CallRecording
from orchestrator.recording.messages import (
    AskRecorder,
    EndRecorder,
    EndRecording,
    Record,
    RecordedPicture,
    RecordedSound,
    RecorderMessage,
    RecorderReady,
    RecorderTurns,
    RecordingEnded,
    RecordingFailed,
    codec,
)
from orchestrator.recording.sealed import SealedFile, read_key
from visavis.service.channel import Channel, ChannelClosed
from visavis.service.child import run_child
from visavis.service.logs import Log

log = Log(__name__)

_NICE = 5
_FLUSH_S = 1.0


def file_of(folder: Path, call_id: str, number: int) -> Path:
    """Where a part of a call's recording lies."""
    return folder / f"{call_id}-{number}.mp4"


class Recorder:
    """Serves one channel until it closes."""

    def __init__(self, channel: Channel[RecorderMessage]) -> None:
        self._channel = channel
        self._calls: dict[str, CallRecording] = {}

    async def run(self) -> None:
        """Until told to end, or the control process is gone; files are closed either way."""
        self._channel.send(RecorderReady(os.getpid()))
        flushing = asyncio.create_task(self._flush())
        with contextlib.suppress(ChannelClosed):
            while not isinstance(message := await self._channel.receive(), EndRecorder):
                if isinstance(message, AskRecorder):
                    self._channel.send(RecorderTurns())
                else:
                    self._take(message)
        flushing.cancel()
        for call_id in list(self._calls):
            self._take(EndRecording(call_id))
        await self._channel.drain()

    def _take(self, message: RecorderMessage) -> None:
        call_id: str = getattr(message, "call_id", "")
        try:
            match message:
                case Record():
                    self._calls[call_id] = self._opened(message)
                case RecordedSound() if call_id in self._calls:
                    self._calls[call_id].hear(message)
                case RecordedPicture() if call_id in self._calls:
                    self._calls[call_id].show(message)
                case EndRecording():
                    if call_id in self._calls:
                        self._calls.pop(call_id).close()
                    self._channel.send(RecordingEnded(call_id))
        except ChannelClosed:
            raise
        except Exception as error:
            # What fails in one call's file costs no other call its recording.
            self._fail(call_id, error)

    def _fail(self, call_id: str, error: Exception) -> None:
        self._calls.pop(call_id, None)
        if not isinstance(error, OSError | ValueError | av.FFmpegError):
            log.exception("recording_failed", error, call=call_id)
        with contextlib.suppress(ChannelClosed):
            self._channel.send(RecordingFailed(call_id, f"it cannot be written: {error}"))

    def _opened(self, message: Record) -> CallRecording:
        folder = Path(message.folder)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = read_key(Path(message.key_file)) if message.key_file else None

        def open_part(number: int) -> BinaryIO | io.RawIOBase:
            descriptor = os.open(
                file_of(folder, message.call_id, number), os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600
            )
            file = os.fdopen(descriptor, "w+b")
            return file if key is None else SealedFile(file, key)

        return CallRecording(message.call_id, message.number, message.picture, open_part, self._channel.send)

    async def _flush(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_S)
            for call_id, call in list(self._calls.items()):
                try:
                    call.flush()
                except Exception as error:
                    self._fail(call_id, error)


if __name__ == "__main__":
    run_child(__doc__, codec, lambda channel: Recorder(channel).run(), _NICE)
