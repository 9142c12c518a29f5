"""Text to speech as a stream of PCM, and which voice speaks which language."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
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


class VoiceByLanguage:
    """Picks the voice that speaks a language; a voice for ``en`` also speaks ``en-us``.

    ``voices`` maps a language prefix (``""`` is every other language) to a factory; voices load on first use.
    """

    def __init__(self, voices: Mapping[str, TextToSpeechFactory]) -> None:
        self._factories = dict(voices)
        self._loaded: dict[str, TextToSpeech] = {}

    def voice(self, language: str) -> TextToSpeech:
        """The voice for a language tag (BCP 47). Raises :class:`SpeechError` when none speaks it."""
        tag = language.lower()
        for prefix in (tag, tag.split("-")[0], ""):
            if prefix in self._factories:
                if prefix not in self._loaded:
                    self._loaded[prefix] = self._factories[prefix]()
                return self._loaded[prefix]
        raise SpeechError(f"no voice speaks '{language}': configure one or choose another language")
