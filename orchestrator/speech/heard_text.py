"""What of a text has been heard: where its words lie in the sound that speaks it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from orchestrator.speech.base import PCM
from orchestrator.speech.finish import active_level, powers

_STEP_MS = 10
_WORD = re.compile(r"\S+")
_DIGIT_LETTERS = 4
"""A digit is spoken as a word of about so many letters."""
_LETTER_MS = 65
"""How long a letter takes, while the end of its sentence is not there yet."""
_ACTIVE = 10**-2.5
"""Of the active level: below it nothing is spoken."""


@dataclass(slots=True)
class _Sentence:
    words: list[str]
    starts_ms: float
    power: list[NDArray[np.float64]] = field(default_factory=list)
    ended: bool = False

    def middles(self) -> list[float]:
        """Milliseconds from the turn's start to the middle of each word."""
        power = np.concatenate(self.power) if self.power else np.zeros(0)
        (active,) = np.nonzero(power > active_level(power) * _ACTIVE)
        weights = list(accumulate(_letters(word) for word in self.words))
        total = len(active) if self.ended else max(len(active), weights[-1] * _LETTER_MS // _STEP_MS)
        shares = (
            (weight - _letters(word) / 2) / weights[-1]
            for word, weight in zip(self.words, weights, strict=True)
        )
        places = (int(share * total) for share in shares)
        return [
            self.starts_ms + _STEP_MS * (float(active[place]) if place < len(active) else 1e9)
            for place in places
        ]


class HeardText:
    """The sentences of a turn and how they sound; ``heard`` cuts them at a time.

    Voices do not tell when they speak which word: inside a sentence its active time is shared out by letters.
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

    def extend(self, pcm: PCM, rate: int) -> None:
        """A stretch of the sound of what was begun last, ``(n,)`` int16 at ``rate`` Hz."""
        if self._sentences and not self._sentences[-1].ended:
            self._sentences[-1].power.append(powers(pcm, rate, _STEP_MS))
        self.milliseconds += len(pcm) * 1000 / rate

    def end(self) -> None:
        """The sound of the sentence is whole."""
        if self._sentences:
            self._sentences[-1].ended = True

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


def _letters(word: str) -> int:
    letters = sum(_DIGIT_LETTERS if each.isdigit() else each.isalpha() for each in word)
    return max(1, letters + 2 * sum(ord(each) >= 0x2E80 for each in word))
