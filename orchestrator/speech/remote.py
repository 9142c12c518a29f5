"""The control process's end of the voices process: voices that speak there, and what is said while it is away."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import OrderedDict
from collections.abc import AsyncGenerator

import numpy as np

from orchestrator.speech.base import PCM, SpeechError, Stretch, TimedSpeech, VoiceByLanguage
from orchestrator.speech.messages import (
    EndVoices,
    Forget,
    NotSpoken,
    Ping,
    Speak,
    Spoken,
    VoiceMessage,
    VoicesReady,
    codec,
)
from orchestrator.speech.voices import voice_names
from visavis.service.channel import ChannelClosed
from visavis.service.child import KeptChild, ProcessState, Program
from visavis.service.logs import Log
from visavis.service.supervisor import BackOff, Supervisor

log = Log(__name__)

ANSWER_S = 10.0
"""For a sentence: then the voice is given up. A process that has died is waited for as long."""
CACHE_BYTES = 8 << 20
_CACHED_LETTERS = 160
_RESTART_S = (0.1, 10.0, 10.0)
PROGRAM = Program(
    "voices process",
    "orchestrator.speech.process",
    codec,
    hello=VoicesReady,
    start_s=60.0,
    silence_s=10.0,
    ping=Ping,
)


class SentenceCache:
    """Short sentences as they were spoken, the oldest ones forgotten first; those that are kept stay for ever."""

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most = most_bytes
        self._bytes = 0
        self._spoken: OrderedDict[tuple[str, str], tuple[int, Stretch]] = OrderedDict()
        self._kept: set[tuple[str, str]] = set()

    def sibling(self) -> SentenceCache:
        """One for the sentences of another voice, which keeps the same ones."""
        other = SentenceCache(self._most)
        other._kept = self._kept
        return other

    def keep(self, text: str, language: str) -> None:
        """Never forget this one once it has been spoken."""
        self._kept.add((language, text))

    def get(self, text: str, language: str) -> tuple[int, Stretch] | None:
        """Rate in Hz, and all of it."""
        found = self._spoken.get((language, text))
        if found is not None:
            self._spoken.move_to_end((language, text))
        return found

    def takes(self, text: str, language: str) -> bool:
        """Whether it is short enough, and not there yet."""
        key = (language, text)
        return key not in self._spoken and (len(text) <= _CACHED_LETTERS or key in self._kept)

    def put(self, text: str, language: str, rate: int, spoken: Stretch) -> None:
        """A sentence was spoken."""
        key = (language, text)
        if not self.takes(text, language):
            return
        self._spoken[key] = (rate, spoken)
        self._bytes += spoken.pcm.nbytes
        for old in [each for each in self._spoken if each not in self._kept]:
            if self._bytes <= self._most:
                break
            self._bytes -= self._spoken.pop(old)[1].pcm.nbytes


class VoicesProcess:
    """A process that speaks for every call; when it dies, another one takes over and is asked what waits."""

    def __init__(self) -> None:
        self.cache = SentenceCache()
        self._numbers = itertools.count(1)
        self._orders: dict[int, tuple[Speak, asyncio.Future[Spoken]]] = {}
        self._ahead: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._ready = False
        self._child: KeptChild[VoiceMessage] = KeptChild(
            PROGRAM, BackOff(*_RESTART_S), on_message=self._take, on_end=self._lost
        )

    @property
    def pid(self) -> int | None:
        """The newest process."""
        return self._child.pid

    @property
    def process(self) -> ProcessState:
        """How it is."""
        return self._child.state

    def start(self, supervisor: Supervisor) -> None:
        """Begin to keep it."""
        self._child.start(supervisor)

    async def close(self) -> None:
        """End it; what is being spoken is not."""
        for task in list(self._ahead.values()):
            task.cancel()
        await self._child.close(EndVoices())

    async def speak(self, text: str, language: str, voice: str) -> tuple[int, Stretch]:
        """A sentence: its rate in Hz, and all of it. Raises :class:`SpeechError`."""
        if waiting := self._ahead.get((language, text)):
            await asyncio.wait({waiting})
        if found := self.cache.get(text, language):
            return found
        return await self._speak(text, language, voice)

    def speak_ahead(self, text: str, language: str, voice: str) -> None:
        """Have a short sentence spoken into the cache: it may be said soon."""
        key = (language, text)
        if self.cache.takes(text, language) and key not in self._ahead:
            task = self._ahead[key] = asyncio.create_task(self._spoken_ahead(text, language, voice))
            task.add_done_callback(lambda _: self._ahead.pop(key, None))

    async def _spoken_ahead(self, text: str, language: str, voice: str) -> None:
        with contextlib.suppress(SpeechError):  # it is told to whoever has it said
            await self._speak(text, language, voice)

    async def _speak(self, text: str, language: str, voice: str) -> tuple[int, Stretch]:
        order = Speak(next(self._numbers), voice, language, text)
        future: asyncio.Future[Spoken] = asyncio.get_running_loop().create_future()
        self._orders[order.number] = order, future
        self._send(order)
        try:
            async with asyncio.timeout(ANSWER_S):
                spoken = await future
        except TimeoutError:
            raise SpeechError(f"the voice has not answered for {ANSWER_S:g} s") from None
        finally:
            del self._orders[order.number]
            if not future.done() or future.cancelled():
                self._send(Forget(order.number))
        stretch = Stretch(np.frombuffer(spoken.payload, "<i2").astype(np.int16), spoken.middles_ms)
        self.cache.put(text, language, spoken.rate, stretch)
        return spoken.rate, stretch

    def _send(self, message: VoiceMessage) -> None:
        if self._ready:
            with contextlib.suppress(ChannelClosed):  # it is sent again to the next one
                self._child.send(message)

    def _take(self, message: VoiceMessage) -> None:
        match message:
            case VoicesReady():
                self._ready = True
                for order, _ in list(self._orders.values()):
                    self._send(order)
            case Spoken(number):
                if (waiting := self._orders.get(number)) and not waiting[1].done():
                    waiting[1].set_result(message)
            case NotSpoken(number, reason):
                if (waiting := self._orders.get(number)) and not waiting[1].done():
                    waiting[1].set_exception(SpeechError(reason))

    def _lost(self, reason: str, pause: float) -> None:
        self._ready = False
        log.error("voices_lost", reason=reason, again_in_s=pause, waiting=len(self._orders))


class RemoteVoice(TimedSpeech):
    """A voice of the voices process, as :class:`orchestrator.speech.base.TextToSpeech`; a text is one sentence."""

    def __init__(self, process: VoicesProcess, name: str) -> None:
        self._process = process
        self._name = name
        self.sample_rate = 0
        """Known once something was spoken."""

    async def timed(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        """See :class:`orchestrator.speech.base.TimedSpeech`."""
        self.sample_rate, stretch = await self._process.speak(text, language, self._name)
        yield stretch

    def remembered(self, text: str, language: str) -> PCM | None:
        """See :class:`orchestrator.speech.base.Remembering`."""
        found = self._process.cache.get(text, language)
        if found is None:
            return None
        self.sample_rate, stretch = found
        return stretch.pcm

    def ahead(self, text: str, language: str) -> None:
        """See :class:`orchestrator.speech.base.Foresight`."""
        self._process.speak_ahead(text, language, self._name)


class _Make:
    """Makes a remote voice; states show it under the voice's own name."""

    def __init__(self, process: VoicesProcess, name: str) -> None:
        self._process = process
        self.__name__ = name

    def __call__(self) -> RemoteVoice:
        return RemoteVoice(self._process, self.__name__)


def remote_voices(process: VoicesProcess) -> VoiceByLanguage:
    """Every voice that is installed, spoken by the process."""
    makers = {name: _Make(process, name) for name in set(voice_names().values())}
    return VoiceByLanguage({tag: makers[name] for tag, name in voice_names().items()})
