"""Text to speech as a stream of PCM, and which voice speaks which language."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

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


@dataclass(frozen=True)
class VoiceState:
    """One voice: the ``language`` prefix it speaks ("" is every other language), its name, whether it is loaded
    (``unused``: not asked for yet), and why it cannot speak."""

    language: str
    voice: str
    state: Literal["unused", "loaded", "failed"]
    reason: str


class VoiceByLanguage:
    """Picks the voice that speaks a language; a voice for ``en`` also speaks ``en-us``.

    ``voices`` maps a language prefix (``""`` is every other language) to a factory; voices load on first use.
    """

    def __init__(self, voices: Mapping[str, TextToSpeechFactory]) -> None:
        self._factories = dict(voices)
        self._loaded: dict[str, TextToSpeech] = {}
        self._faults: dict[str, str] = {}

    def voice(self, language: str) -> TextToSpeech:
        """The voice for a language tag (BCP 47). Raises :class:`SpeechError` when none speaks it."""
        prefix = self._prefix(language)
        if prefix not in self._loaded:
            self._loaded[prefix] = self._factories[prefix]()
        return self._loaded[prefix]

    async def warm(self, language: str) -> None:
        """Speak a word to nobody, so that the first turn need not wait. Raises :class:`SpeechError`; what a voice
        that does not come up raises is kept for :attr:`states` too."""
        prefix = self._prefix(language)
        try:
            async for _ in self.voice(language).stream("Hello.", language):
                pass
        except Exception as error:
            self._faults[prefix] = str(error) or type(error).__name__
            raise
        self._faults.pop(prefix, None)

    @property
    def states(self) -> list[VoiceState]:
        """Every voice there is."""
        out = []
        for prefix, factory in self._factories.items():
            fault = self._faults.get(prefix, "")
            state: Literal["unused", "loaded", "failed"] = "loaded" if prefix in self._loaded else "unused"
            name = getattr(factory, "__name__", type(factory).__name__)
            out.append(VoiceState(prefix, name, "failed" if fault else state, fault))
        return out

    def _prefix(self, language: str) -> str:
        tag = language.lower()
        for prefix in (tag, tag.split("-")[0], ""):
            if prefix in self._factories:
                return prefix
        raise SpeechError(f"no voice speaks '{language}': configure one or choose another language")
