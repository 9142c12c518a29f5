"""The listening process: ``python -m orchestrator.listening.process --channel N`` is the ears of all calls.

Recognition takes a processor for a tenth of a second at a time; a thread does it, one utterance after the other.
Where a service of others recognises it is asked first.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Coroutine
from typing import Any

import numpy as np

from orchestrator.listening.ear import RATE, Began, Ear, EarEvent, Lull, Onset, Pausing, Sound, blocks
from orchestrator.listening.messages import (
    AskListening,
    CloseEar,
    EarlyWords,
    EarMessage,
    EndListening,
    Hear,
    ListeningReady,
    ListeningTurns,
    OpenEar,
    RecogniseWith,
    RecognitionService,
    SpeechBegan,
    SpeechOnset,
    SpeechPaused,
    TakeUtterance,
    Words,
    codec,
)
from orchestrator.listening.recognition import CallRecognition, Recognition
from orchestrator.listening.stt import SttSettings
from visavis.audio import Resampler
from visavis.service.breaker import ServiceState
from visavis.service.channel import Channel, ChannelClosed
from visavis.service.child import run_child
from visavis.service.logs import Log

log = Log(__name__)

_NICE = 5
_KEPT = RATE
"""Of what was sent: more than a voice waits for."""


class CallEar:
    """A call's ear and what brings its sound to 16 kHz."""

    def __init__(self, recognition: CallRecognition) -> None:
        self.ear = Ear()
        self.recognition = recognition
        self.pause = 0
        self.lull: Lull | None = None
        self._resampler = Resampler(RATE)
        self._reference: Sound = np.zeros(0, np.float32)
        self._next = -1

    def hear(self, message: Hear) -> list[EarEvent]:
        """A stretch of the call; after a gap the ear begins anew."""
        split = len(message.payload) - message.reference
        near: Sound = np.frombuffer(message.payload[:split], "<i2").astype(np.float32) / np.float32(32768)
        played = np.frombuffer(message.payload[split:], "<i2")
        if self._next not in (-1, message.position) or self._resampler.rate != (message.rate or RATE):
            self.ear = Ear() if self._next != message.position else self.ear
            self._resampler = Resampler(message.rate or RATE)
            self._reference = np.zeros(0, np.float32)
        self._next = message.position + len(near)
        resampled: Sound = self._resampler.push(played).astype(np.float32) / np.float32(32768)
        # The voice goes with what was sent when it came, however long it has waited: an echo stays in its place.
        sent: Sound = np.concatenate((self._reference, resampled))[-_KEPT:]
        end = max(0, len(sent) - message.behind)
        reference: Sound = np.zeros(len(near), np.float32)
        found, self._reference = sent[max(0, end - len(near)) : end], sent
        reference[len(near) - len(found) :] = found
        events: list[EarEvent] = []
        for block, far in zip(blocks(near), blocks(reference), strict=True):
            events += self.ear.hear(block, far)
            self.recognition.feed(self.ear.grown())
        return events

    def take(self, pause: int) -> None:
        """The utterance that paused with this number is over."""
        if self.ear.take(pause):
            self.recognition.take()


class Ears:
    """Serves one channel until it closes."""

    def __init__(self, channel: Channel[EarMessage]) -> None:
        self._channel = channel
        self._ears: dict[str, CallEar] = {}
        self._languages: dict[str, str] = {}
        self._recognition = Recognition(self._tell_service)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Until told to end, or the control process is gone."""
        with contextlib.suppress(ChannelClosed):
            first = await self._channel.receive()
            settings = first.settings if isinstance(first, RecogniseWith) else SttSettings()
            reason = await self._recognition.load(settings)
            Ear()  # whose models load on first use
            self._channel.send(ListeningReady(os.getpid(), not reason, reason))
            while not isinstance(message := await self._channel.receive(), EndListening):
                try:
                    self._take(message)
                except ChannelClosed:
                    raise
                except Exception:
                    # A fault in one call's ear must not deafen the others.
                    log.exception("ear_failed", call=getattr(message, "call_id", ""))
                    self._close(getattr(message, "call_id", ""))
        for call_id in list(self._ears):
            self._close(call_id)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._recognition.close()

    def _take(self, message: EarMessage) -> None:
        match message:
            case OpenEar(call_id, language):
                self._languages[call_id] = language
            case Hear(call_id):
                ear = self._ears.get(call_id)
                if ear is None:
                    transcript = self._recognition.of_call(self._languages.get(call_id, "en"), message.rate)
                    ear = self._ears[call_id] = CallEar(transcript)
                for event in ear.hear(message):
                    self._tell(call_id, ear, event)
            case TakeUtterance(call_id, pause):
                if call_id in self._ears:
                    self._ears[call_id].take(pause)
            case CloseEar(call_id):
                self._languages.pop(call_id, None)
                self._close(call_id)
            case AskListening():
                self._channel.send(ListeningTurns())

    def _close(self, call_id: str) -> None:
        ear = self._ears.pop(call_id, None)
        if ear is not None:
            self._start(ear.recognition.close())

    def _tell(self, call_id: str, ear: CallEar, event: EarEvent) -> None:
        if isinstance(event, Onset):
            self._channel.send(SpeechOnset(call_id, event.lapsed))
            return
        if isinstance(event, Began):
            ear.pause = 0
            ear.lull = None
            self._channel.send(SpeechBegan(call_id, event.again))
            return
        if isinstance(event, Lull):
            ear.lull = event
            self._start(self._early_words(call_id, ear, event))
            return
        ear.pause = event.number
        self._channel.send(SpeechPaused(call_id, event.number, event.quiet_ms))
        self._start(self._words(call_id, ear, event))

    def _tell_service(self, state: ServiceState) -> None:
        with contextlib.suppress(ChannelClosed):
            self._channel.send(RecognitionService(state))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _early_words(self, call_id: str, ear: CallEar, event: Lull) -> None:
        found = await ear.recognition.early_words(event.sound, lambda: ear.lull is event, event.goes_on)
        if found is not None and found.text and ear.lull is event:
            with contextlib.suppress(ChannelClosed):
                self._channel.send(EarlyWords(call_id, found.text))

    async def _words(self, call_id: str, ear: CallEar, event: Pausing) -> None:
        def wanted() -> bool:
            return ear.pause == event.number  # whoever speaks on has made this recognition needless

        began = time.monotonic()
        found = await ear.recognition.words(event.sound, wanted, event.goes_on)
        if wanted():
            took = round((time.monotonic() - began) * 1000)
            text, words = (found.text, found.words) if found is not None else ("", ())
            with contextlib.suppress(ChannelClosed):
                self._channel.send(Words(call_id, event.number, text, took, words, found is None))


if __name__ == "__main__":
    run_child(__doc__, codec, lambda channel: Ears(channel).run(), _NICE)
