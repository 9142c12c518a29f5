"""The listening process: ``python -m orchestrator.listening.process --channel N`` is the ears of all calls.

Recognition takes a processor for a tenth of a second at a time; a thread does it, one utterance after the other.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from orchestrator.listening.ear import RATE, Began, Ear, Pausing, Sound, blocks
from orchestrator.listening.messages import (
    AskListening,
    CloseEar,
    EarMessage,
    EndListening,
    Hear,
    ListeningReady,
    ListeningTurns,
    SpeechBegan,
    SpeechPaused,
    TakeUtterance,
    Words,
    codec,
)
from orchestrator.listening.recogniser import NoModel, Recogniser
from visavis.audio import Resampler
from visavis.service.channel import Channel, ChannelClosed
from visavis.service.child import run_child
from visavis.service.logs import Log

log = Log(__name__)

_NICE = 5
_WARM_S = 1


class CallEar:
    """A call's ear and what brings its sound to 16 kHz."""

    def __init__(self) -> None:
        self.ear = Ear()
        self.pause = 0
        self._resampler = Resampler(RATE)
        self._reference: Sound = np.zeros(0, np.float32)
        self._next = -1

    def hear(self, message: Hear) -> list[Began | Pausing]:
        """A stretch of the call; after a gap the ear begins anew."""
        split = len(message.payload) - message.reference
        near: Sound = np.frombuffer(message.payload[:split], "<i2").astype(np.float32) / np.float32(32768)
        sent = np.frombuffer(message.payload[split:], "<i2")
        if self._next not in (-1, message.position) or self._resampler.rate != (message.rate or RATE):
            self.ear = Ear() if self._next != message.position else self.ear
            self._resampler = Resampler(message.rate or RATE)
            self._reference = np.zeros(0, np.float32)
        self._next = message.position + len(near)
        resampled = self._resampler.push(sent).astype(np.float32) / 32768
        self._reference = np.concatenate((self._reference, resampled))
        reference, self._reference = self._reference[: len(near)], self._reference[len(near) :]
        reference = np.pad(reference, (len(near) - len(reference), 0))
        return [
            event
            for block, far in zip(blocks(near), blocks(reference), strict=True)
            for event in self.ear.hear(block, far)
        ]


class Ears:
    """Serves one channel until it closes."""

    def __init__(self, channel: Channel[EarMessage]) -> None:
        self._channel = channel
        self._ears: dict[str, CallEar] = {}
        self._thread = ThreadPoolExecutor(1, "recogniser")
        self._recognise: Recogniser | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until told to end, or the control process is gone."""
        reason = await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        Ear()  # whose models load on first use
        self._channel.send(ListeningReady(os.getpid(), not reason, reason))
        with contextlib.suppress(ChannelClosed):
            while not isinstance(message := await self._channel.receive(), EndListening):
                try:
                    self._take(message)
                except ChannelClosed:
                    raise
                except Exception:
                    # A fault in one call's ear must not deafen the others.
                    log.exception("ear_failed", call=getattr(message, "call_id", ""))
                    self._ears.pop(getattr(message, "call_id", ""), None)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _load(self) -> str:
        try:
            recognise = Recogniser()
            recognise(np.full(RATE * _WARM_S, 1e-4, np.float32))
        except NoModel as error:
            return str(error)
        self._recognise = recognise
        return ""

    def _take(self, message: EarMessage) -> None:
        match message:
            case Hear(call_id):
                ear = self._ears.setdefault(call_id, CallEar())
                for event in ear.hear(message):
                    self._tell(call_id, ear, event)
            case TakeUtterance(call_id, pause):
                if call_id in self._ears:
                    self._ears[call_id].ear.take(pause)
            case CloseEar(call_id):
                self._ears.pop(call_id, None)
            case AskListening():
                self._channel.send(ListeningTurns())

    def _tell(self, call_id: str, ear: CallEar, event: Began | Pausing) -> None:
        if isinstance(event, Began):
            ear.pause = 0
            self._channel.send(SpeechBegan(call_id, event.again))
            return
        ear.pause = event.number
        self._channel.send(SpeechPaused(call_id, event.number, event.quiet_ms))
        if self._recognise is not None:
            task = asyncio.create_task(self._words(call_id, ear, event, self._recognise))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _words(self, call_id: str, ear: CallEar, event: Pausing, recognise: Recogniser) -> None:
        def work() -> str | None:
            # Whoever speaks on has made this recognition needless.
            return recognise(event.sound) if ear.pause == event.number else None

        began = time.monotonic()
        text = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        if text is not None:
            took = round((time.monotonic() - began) * 1000)
            with contextlib.suppress(ChannelClosed):
                self._channel.send(Words(call_id, event.number, text, took))


if __name__ == "__main__":
    run_child(__doc__, codec, lambda channel: Ears(channel).run(), _NICE)
