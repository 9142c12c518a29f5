"""Text to speech as a stream of PCM, and which voice speaks which language."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Container, Mapping
from typing import Protocol

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
        ...

    def stream(self, text: str, language: str) -> AsyncIterator[PCM]:
        """Mono int16 chunks, the first as early as possible. Raises :class:`SpeechError`."""
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


class VoiceByLanguage:
    """Picks the voice that speaks a language; a voice for ``en`` also speaks ``en-us``.

    ``voices`` maps a language tag in lower case to a factory; voices load on first use.
    """

    def __init__(self, voices: Mapping[str, TextToSpeechFactory]) -> None:
        self._factories = dict(voices)
        self._loaded: dict[TextToSpeechFactory, TextToSpeech] = {}

    def check(self, language: str) -> None:
        """Raises :class:`SpeechError`, with the list of languages, when no voice speaks it."""
        self._factory(language)

    def voice(self, language: str) -> TextToSpeech:
        """The voice for a language tag (BCP 47). Raises as :meth:`check`."""
        factory = self._factory(language)
        if factory not in self._loaded:
            self._loaded[factory] = factory()
        return self._loaded[factory]

    def _factory(self, language: str) -> TextToSpeechFactory:
        tag = lookup(language, self._factories)
        if tag is None:
            known = sorted({known.split("-")[0] for known in self._factories})
            raise SpeechError(f"no voice speaks '{language[:40]}': choose one of {', '.join(known)}")
        return self._factories[tag]
