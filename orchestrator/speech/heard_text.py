"""What of a text has been heard: where its words lie in the sound that speaks it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from orchestrator.speech.base import PCM
from orchestrator.speech.estimated import aligned, shared, weight
from orchestrator.speech.finish import active_level, powers

_STEP_MS = 10
_WORD = re.compile(r"\S+")
_LETTER_MS = 35
"""How long a word takes for each letter of its weight, while the end of its sentence is not there yet."""
_ACTIVE = 10**-2.5
"""Of the active level: below it nothing is spoken."""


@dataclass(slots=True)
class _Sentence:
    words: list[str]
    starts_ms: float
    power: list[NDArray[np.float64]] = field(default_factory=list)
    rest: PCM = field(default_factory=lambda: np.zeros(0, np.int16))
    ended: bool = False
    told_ms: list[float] = field(default_factory=list)
    """What the voice itself says, from the sentence's start."""

    def middles(self) -> list[float]:
        """Milliseconds from the turn's start to the middle of each word."""
        if len(self.told_ms) >= len(self.words):
            return [self.starts_ms + each for each in self.told_ms[: len(self.words)]]
        if not self.words:
            return []
        power = np.concatenate(self.power) if self.power else np.zeros(0)
        (active,) = np.nonzero(power > active_level(power) * _ACTIVE)
        if self.ended:
            places = aligned(self.words, active)
        else:
            least = sum(map(weight, self.words)) * _LETTER_MS // _STEP_MS
            places = shared(self.words, active, max(len(active), least))
        shared_ms = [self.starts_ms + _STEP_MS * each for each in places]
        told = [self.starts_ms + each for each in self.told_ms[: len(shared_ms)]]
        return told + shared_ms[len(told) :]

    def extend(self, pcm: PCM, rate: int) -> None:
        """More of its sound, which comes in pieces of any length."""
        sound = np.concatenate((self.rest, pcm))
        whole = len(sound) - len(sound) % (rate * _STEP_MS // 1000)
        self.rest = sound[whole:]
        self.power.append(powers(sound[:whole], rate, _STEP_MS))

    def cut(self) -> None:
        """It has broken off: words that have not come do not come any more."""
        length_ms = _STEP_MS * sum(map(len, self.power))
        come = [middle - self.starts_ms < length_ms for middle in self.middles()]
        self.words = [word for word, there in zip(self.words, come, strict=True) if there]
        self.told_ms = self.told_ms[: len(self.words)]
        self.ended = True


class HeardText:
    """The sentences of a turn and how they sound; ``heard`` cuts them at a time.

    Where a voice does not tell when it speaks which word, that is estimated.
    """

    def __init__(self) -> None:
        self._sentences: list[_Sentence] = []
        self.milliseconds = 0.0
        """Length of the sound so far."""

    @property
    def text(self) -> str:
        """All sentences so far."""
        return " ".join(word for each in self._sentences for word in each.words)

    def begin(self, sentence: str) -> None:
        """The next sentence; its sound follows."""
        self.end()
        if words := _WORD.findall(sentence):
            self._sentences.append(_Sentence(words, self.milliseconds))

    def extend(self, pcm: PCM, rate: int, middles_ms: Sequence[float] = ()) -> None:
        """A stretch of the sound of what was begun last, ``(n,)`` int16 at ``rate`` Hz; ``middles_ms``: of further
        words, from the sentence's own start."""
        if self._sentences and not self._sentences[-1].ended:
            self._sentences[-1].extend(pcm, rate)
            self._sentences[-1].told_ms += middles_ms
        self.milliseconds += len(pcm) * 1000 / rate

    def pause(self, milliseconds: float) -> None:
        """Silence before the sound of what was begun last."""
        self.milliseconds += milliseconds
        if self._sentences and not any(map(len, self._sentences[-1].power)):
            self._sentences[-1].starts_ms = self.milliseconds

    def end(self) -> None:
        """The sound of the sentence is whole."""
        if self._sentences:
            self._sentences[-1].ended = True

    def cut(self) -> None:
        """The sound of the sentence has broken off, and no more of it comes."""
        if self._sentences:
            self._sentences[-1].cut()

    def heard(self, milliseconds: float) -> str:
        """The words of which at least half had been heard by then."""
        out = [
            word
            for sentence in self._sentences
            if sentence.starts_ms < milliseconds
            for word, middle in zip(sentence.words, sentence.middles(), strict=True)
            if middle < milliseconds
        ]
        return " ".join(out)
