"""Text to speech as a stream of PCM, and which voice speaks which language."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Container, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

PCM = NDArray[np.int16]


class SpeechError(Exception):
    """A text that cannot be spoken; the message is one clear sentence."""


class TextToSpeech(Protocol):
    """Speaks text. One instance serves all calls; ``stream`` may run several times at once."""

    @property
    def sample_rate(self) -> int:
        """Samples per second of what ``stream`` yields."""

    def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        """Mono int16 chunks, the first as early as possible. Raises :class:`SpeechError`."""


@runtime_checkable
class Foresight(Protocol):
    """A voice that can speak a sentence before it is certain that it is wanted."""

    def ahead(self, text: str, language: str) -> None:
        """It may be said soon; returns at once."""
        ...


@dataclass(frozen=True, slots=True)
class Stretch:
    """Of a sentence's sound, with the middles of its further words in milliseconds from the sentence's beginning.

    ``again``: what came before broke off, and the sentence is spoken from its beginning after this. ``aside``: this
    is no part of it.
    """

    pcm: PCM
    middles_ms: tuple[float, ...] = ()
    again: bool = False
    aside: bool = False


def joined(stretches: Sequence[Stretch]) -> Stretch:
    """Stretches of one sentence as one; no sound where there are none."""
    pcm = np.concatenate([np.zeros(0, np.int16), *(each.pcm for each in stretches)])
    return Stretch(pcm, tuple(middle for each in stretches for middle in each.middles_ms))


@runtime_checkable
class TimedSpeech(Protocol):
    """A voice that tells when it speaks which word."""

    def timed(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        """One sentence; otherwise as :meth:`TextToSpeech.stream`."""
        ...

    async def stream(self, text: str, language: str) -> AsyncGenerator[PCM, None]:
        """See :class:`TextToSpeech`."""
        async with aclosing(self.timed(text, language)) as stretches:
            async for stretch in stretches:
                yield stretch.pcm


async def stretches_of(voice: TextToSpeech, text: str, language: str) -> AsyncGenerator[Stretch, None]:
    """A sentence, with times where the voice tells them. Raises :class:`SpeechError`."""
    if isinstance(voice, TimedSpeech):
        async with aclosing(voice.timed(text, language)) as stretches:
            async for stretch in stretches:
                yield stretch
        return
    async for chunk in voice.stream(text, language):
        yield Stretch(chunk)


@runtime_checkable
class Remembering(Protocol):
    """A voice that keeps some sentences as they were spoken."""

    def remembered(self, text: str, language: str) -> PCM | None:
        """One of them, at the voice's rate; None where it is not there. Returns at once."""
        ...


TextToSpeechFactory = Callable[[], TextToSpeech]


def lookup(language: str, known: Container[str]) -> str | None:
    """The entry of ``known`` (in lower case) for a language tag (BCP 47), regions left away until there is one.

    RFC 4647 section 3.4; ``en_US`` is read as ``en-us``.
    """
    tag = language.lower().replace("_", "-")
    while tag and tag not in known:
        tag = tag.rpartition("-")[0]
    return tag or None


@dataclass(frozen=True)
class VoiceState:
    """One voice: the ``languages`` it speaks, its name, whether it is loaded (``unused``: not asked for yet), and
    why it cannot speak."""

    languages: list[str]
    voice: str
    state: Literal["unused", "loaded", "failed"]
    reason: str


class VoiceByLanguage:
    """Picks the voice that speaks a language; a voice for ``en`` also speaks ``en-us``.

    ``voices`` maps a language tag in lower case to a factory; voices load on first use.
    """

    def __init__(self, voices: Mapping[str, TextToSpeechFactory]) -> None:
        self._factories = dict(voices)
        self._loaded: dict[TextToSpeechFactory, TextToSpeech] = {}
        self._faults: dict[TextToSpeechFactory, str] = {}

    def check(self, language: str) -> None:
        """Raises :class:`SpeechError`, with the list of languages, when no voice speaks it."""
        self._factory(language)

    def voice(self, language: str) -> TextToSpeech:
        """The voice for a language tag (BCP 47). Raises as :meth:`check`."""
        factory = self._factory(language)
        if factory not in self._loaded:
            self._loaded[factory] = factory()
        return self._loaded[factory]

    async def warm(self, language: str) -> None:
        """Speak a word to nobody, so that the first turn need not wait. Raises :class:`SpeechError`; what a voice
        that does not come up raises is kept for :attr:`states` too."""
        factory = self._factory(language)
        try:
            async for _ in self.voice(language).stream("Hello.", language):
                pass
        except Exception as error:
            self._faults[factory] = str(error) or type(error).__name__
            raise
        self._faults.pop(factory, None)

    @property
    def states(self) -> list[VoiceState]:
        """Every voice there is."""
        languages: dict[TextToSpeechFactory, list[str]] = {}
        for tag, factory in self._factories.items():
            languages.setdefault(factory, []).append(tag)
        return [self._state(factory, tags) for factory, tags in languages.items()]

    def _state(self, factory: TextToSpeechFactory, languages: list[str]) -> VoiceState:
        fault = self._faults.get(factory, "")
        state: Literal["unused", "loaded", "failed"] = "loaded" if factory in self._loaded else "unused"
        name = getattr(factory, "__name__", type(factory).__name__)
        return VoiceState(languages, name, "failed" if fault else state, fault)

    def _factory(self, language: str) -> TextToSpeechFactory:
        tag = lookup(language, self._factories)
        if tag is None:
            known = sorted({known.split("-")[0] for known in self._factories})
            raise SpeechError(f"no voice speaks '{language[:40]}': choose one of {', '.join(known)}")
        return self._factories[tag]
