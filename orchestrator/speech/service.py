"""The seam for voices of others: a sentence comes in pieces, with a voice on this machine behind it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from orchestrator.speech.base import (
    PCM,
    SpeechError,
    Stretch,
    TextToSpeech,
    TimedSpeech,
    VoiceByLanguage,
    joined,
    stretches_of,
)
from orchestrator.speech.remote import RemoteVoice, SentenceCache, VoicesProcess
from orchestrator.speech.stream_finish import StreamFinish, VoiceLevel
from orchestrator.speech.voices import voice_names
from visavis.audio import Resampler
from visavis.service.breaker import CircuitBreaker
from visavis.service.logs import Log
from visavis.service.secret import Secret

log = Log(__name__)

SILENCE_S = 2.0
"""A service that sends nothing for so long is given up: the caller waits for no more than three seconds."""


@dataclass(frozen=True, slots=True)
class TtsSettings:
    """``url`` is the root of the service, "" the vendor's."""

    url: str = field(default="", repr=False)
    key: Secret = field(default_factory=Secret)
    model: str = ""
    voice: str = ""


class VoiceService(Protocol):
    """A service that speaks; serves all calls."""

    @property
    def sample_rate(self) -> int: ...

    def speak(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        """A sentence as it is made; closing it ends the work. Raises :class:`SpeechError`."""
        ...

    def ahead(self, language: str) -> None:
        """A sentence is about to come. Returns at once."""
        ...

    async def close(self) -> None:
        """No call needs it any more."""
        ...


class ServiceVoice(TimedSpeech):
    """A service as :class:`TextToSpeech` that tells times of words; ``behind`` speaks where it fails.

    A sentence that breaks off is spoken again, from its beginning, by the voice behind. Short ones are cached.
    """

    def __init__(
        self, service: VoiceService, behind: TextToSpeech, breaker: CircuitBreaker, cache: SentenceCache
    ) -> None:
        self._service, self._behind = service, behind
        self._breaker, self._cache = breaker, cache
        self._level = VoiceLevel()

    @property
    def sample_rate(self) -> int:
        """See :class:`TextToSpeech`."""
        return self._service.sample_rate

    def ahead(self, text: str, language: str) -> None:
        """See :class:`orchestrator.speech.base.Foresight`."""
        if self._breaker.usable and self._cache.get(text, language) is None:
            self._service.ahead(language)

    def remembered(self, text: str, language: str) -> PCM | None:
        """See :class:`orchestrator.speech.base.Remembering`."""
        found = self._cache.get(text, language)
        return found[1].pcm if found is not None else None

    async def timed(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        """See :class:`orchestrator.speech.base.TimedSpeech`."""
        if found := self._cache.get(text, language):
            yield found[1]
            return
        if self._breaker.usable:
            spoken, reason = list[Stretch](), ""
            try:
                async with aclosing(self._served(text, language)) as stretches:
                    async for stretch in stretches:
                        spoken.append(stretch)
                        yield stretch
            except SpeechError as error:
                reason = str(error)
            if not reason:
                self._breaker.good()
                self._cache.put(text, language, self.sample_rate, joined(spoken))
                return
            log.warning("tts_failed", reason=reason)
            self._breaker.fault(reason)
            if any(len(each.pcm) for each in spoken):
                yield Stretch(_NOTHING, again=True)
        async with aclosing(self._spoken_behind(text, language)) as stretches:
            async for stretch in stretches:
                yield stretch

    async def _served(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        finish = StreamFinish(self.sample_rate, self._level)
        async with aclosing(self._service.speak(text, language)) as stretches:
            while True:
                try:
                    async with asyncio.timeout(SILENCE_S):
                        stretch = await anext(stretches, None)
                except TimeoutError:
                    raise SpeechError(f"the voice's service sent nothing for {SILENCE_S:g} s") from None
                if stretch is None:
                    break
                pcm = finish.push(stretch.pcm)
                middles = tuple(each - finish.head_ms for each in stretch.middles_ms)
                if len(pcm) or middles:
                    yield Stretch(pcm, middles)
        yield Stretch(finish.flush())

    async def _spoken_behind(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        resampler: Resampler | None = None
        async for stretch in stretches_of(self._behind, text, language):
            if self._behind.sample_rate == self.sample_rate:
                yield stretch
                continue
            resampler = resampler or Resampler(self._behind.sample_rate, self.sample_rate)
            yield replace(stretch, pcm=resampler.push(stretch.pcm))
        if resampler is not None:
            yield Stretch(resampler.flush())


class _Make:
    """Makes a service's voice with one of ours behind it; states show it under the service's name."""

    def __init__(
        self, service: VoiceService, process: VoicesProcess, behind: str, breaker: CircuitBreaker
    ) -> None:
        self.__name__ = breaker.state.name
        self._parts = service, RemoteVoice(process, behind), breaker, process.cache.sibling()

    def __call__(self) -> ServiceVoice:
        return ServiceVoice(*self._parts)


def service_voices(process: VoicesProcess, service: VoiceService, breaker: CircuitBreaker) -> VoiceByLanguage:
    """The service's voice for every language that a voice of ours speaks, too."""
    names = voice_names()
    makers = {name: _Make(service, process, name, breaker) for name in set(names.values())}
    return VoiceByLanguage({tag: makers[name] for tag, name in names.items()})


_NOTHING: PCM = np.zeros(0, np.int16)
