"""The voices process: ``python -m orchestrator.speech.process --channel N`` speaks sentences for all calls.

Speaking takes a processor for tens of milliseconds at a time, more than a clock or the control process can spare.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

from orchestrator.speech.base import SpeechError, joined
from orchestrator.speech.finish import FinishedVoice
from orchestrator.speech.messages import (
    EndVoices,
    Forget,
    NotSpoken,
    Ping,
    Pong,
    Speak,
    Spoken,
    VoiceMessage,
    VoicesReady,
    codec,
)
from orchestrator.speech.voices import VOICES
from visavis.service.channel import Channel, ChannelClosed
from visavis.service.child import run_child
from visavis.service.logs import Log

log = Log(__name__)

_NICE = 2


class Speakers:
    """Speaks what it is asked to, several sentences at once, each voice in its own thread."""

    def __init__(self, channel: Channel[VoiceMessage]) -> None:
        self._channel = channel
        self._voices: dict[str, FinishedVoice] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Until told to leave, or the control process is gone."""
        self._channel.send(VoicesReady(os.getpid()))
        with contextlib.suppress(ChannelClosed):
            while not isinstance(message := await self._channel.receive(), EndVoices):
                match message:
                    case Speak(number):
                        self._tasks[number] = asyncio.create_task(self._speak(message))
                    case Forget(number):
                        if number in self._tasks:
                            self._tasks[number].cancel()
                    case Ping():
                        self._channel.send(Pong())
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _speak(self, order: Speak) -> None:
        answer: VoiceMessage
        try:
            voice = self._voices.get(order.voice)
            if voice is None:
                voice = self._voices[order.voice] = FinishedVoice(VOICES[order.voice]())
            spoken = joined([each async for each in voice.timed(order.text, order.language)])
            payload = spoken.pcm.astype("<i2").tobytes()
            answer = Spoken(order.number, voice.sample_rate, spoken.middles_ms, payload)
        except SpeechError as error:
            answer = NotSpoken(order.number, str(error))
        except Exception:
            log.exception("voice_failed", voice=order.voice)
            answer = NotSpoken(order.number, "the voice failed: the log of the orchestrator tells how")
        finally:
            self._tasks.pop(order.number, None)
        with contextlib.suppress(ChannelClosed):
            self._channel.send(answer)


if __name__ == "__main__":
    run_child(__doc__, codec, lambda channel: Speakers(channel).run(), _NICE)
