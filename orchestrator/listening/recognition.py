"""Who recognises: a service of others where one is set, and the recogniser that is installed where it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from orchestrator.listening.activity import FRAME
from orchestrator.listening.context import Context, Understood
from orchestrator.listening.ear import LULL_FRAMES, OVER_VOICE_FRAMES
from orchestrator.listening.recogniser import LANGUAGE, NoModel, Recogniser
from orchestrator.listening.stt import (
    RATE,
    Recognised,
    Sound,
    SpeechToText,
    SttError,
    SttSettings,
    Transcriber,
)
from orchestrator.listening.turns import ShortestFirst
from visavis.language import primary_language
from visavis.service.breaker import CircuitBreaker, ServiceState
from visavis.service.logs import Log

log = Log(__name__)

_WARM_S = 1


def _deepgram(settings: SttSettings) -> SpeechToText:
    from orchestrator.listening.deepgram import Deepgram

    return Deepgram(settings)


def _openai(settings: SttSettings) -> SpeechToText:
    from orchestrator.listening.openai import OpenAISpeechToText

    return OpenAISpeechToText(settings)


_SERVICES: dict[str, Callable[[SttSettings], SpeechToText]] = {"deepgram": _deepgram, "openai": _openai}
"""Each loads only where it is wanted: the process is small."""


class Recognition:
    """Of all calls; ``on_change`` is told how the service does."""

    def __init__(self, on_change: Callable[[ServiceState], None]) -> None:
        self.service: SpeechToText | None = None
        self.breaker = CircuitBreaker("stt", "")
        self._on_change = on_change
        self._thread = ThreadPoolExecutor(1, "recogniser")
        self._turns = ShortestFirst()
        self._own: Recogniser | None = None

    async def load(self, settings: SttSettings) -> str:
        """Make ready; a sentence where nobody recognises."""
        if settings.provider:
            self.service = _SERVICES[settings.provider](settings)
            self.breaker = CircuitBreaker("stt", settings.provider, on_change=self._on_change)
        reason = await asyncio.get_running_loop().run_in_executor(self._thread, self._load)
        return reason if self.service is None else ""

    def of_call(self, language: str, rate: int) -> CallRecognition:
        """For a call whose codec has this rate in Hz; 0 where that is not known."""
        service = self.service
        return CallRecognition(self, service.transcriber(language, rate) if service else None, language)

    async def own(
        self, sound: Sound, before: Sequence[Understood], wanted: Callable[[], bool]
    ) -> Understood | None:
        """By the recogniser that is installed, where there is one and the words are still ``wanted`` by then."""
        recognise = self._own
        if recognise is None:
            return None

        def work() -> Understood:
            return recognise.understand(sound, before) if wanted() else Understood(sound, (), "")

        async with self._turns.turn(len(sound)):
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    async def close(self) -> None:
        """No call is left."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        if self.service is not None:
            await self.service.close()

    def _load(self) -> str:
        try:
            recognise = Recogniser()
            recognise(np.full(RATE * _WARM_S, 1e-4, np.float32))
        except NoModel as error:
            return str(error)
        self._own = recognise
        return ""


class CallRecognition:
    """Of one call."""

    def __init__(self, all_: Recognition, transcriber: Transcriber | None, language: str) -> None:
        self._all, self._transcriber = all_, transcriber
        self._known = primary_language(language) == LANGUAGE
        self._context = Context()
        self._early: tuple[Sound, asyncio.Future[Understood | None]] | None = None

    def feed(self, sound: Sound) -> None:
        """The utterance has grown by this."""
        if self._transcriber is not None and len(sound):
            self._transcriber.feed(sound)

    async def early_words(
        self, sound: Sound, wanted: Callable[[], bool], goes_on: bool = False
    ) -> Recognised | None:
        """What was said in what may be all of an utterance; None where that is not known before it is sure.

        ``words`` uses the same work where nothing but quiet follows.
        """
        if not self._known or (self._transcriber is not None and self._all.breaker.usable):
            return None
        work = asyncio.ensure_future(self._all.own(sound, self._context.before(goes_on), wanted))
        self._early = sound, work
        found = await work
        return Recognised(found.text) if found is not None else None

    async def words(
        self, sound: Sound, wanted: Callable[[], bool], goes_on: bool = False
    ) -> Recognised | None:
        """What was said in an utterance, all of which is ``sound``; None where nobody can tell.

        ``goes_on``: see :class:`orchestrator.listening.ear.Pausing`.
        """
        before = self._context.before(goes_on)
        breaker = self._all.breaker
        if self._transcriber is not None and breaker.usable:
            try:
                found = await self._transcriber.words(sound)
            except SttError as error:
                log.warning("stt_failed", reason=str(error))
                breaker.fault(str(error))
            else:
                breaker.good()
                return found
        if self._transcriber is not None and not self._known:
            return None
        own = await self._known_early(sound)
        if own is None:
            own = await self._all.own(sound, before, wanted)
        if own is None:
            return None
        if wanted():
            self._context.heard(own)
        return Recognised(own.text)

    async def _known_early(self, sound: Sound) -> Understood | None:
        early, self._early = self._early, None
        if early is None or not np.array_equal(early[0], sound[: len(early[0])]):
            return None
        quiet = len(sound) - len(early[0])
        found = await early[1] if quiet == (OVER_VOICE_FRAMES - LULL_FRAMES) * FRAME else None
        return found if found is not None and found.text else None

    def take(self) -> None:
        """The utterance is over."""
        self._context.take()
        if self._transcriber is not None:
            self._transcriber.take()

    async def close(self) -> None:
        """The call is over."""
        if self._transcriber is not None:
            await self._transcriber.close()
