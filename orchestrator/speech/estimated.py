"""Where words lie in a sound whose voice does not tell."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

_VOWELS = re.compile("[aeiouy\u0300-\u036f]+")
"""Of a syllable, with the marks above them; a word in another alphabet counts as one."""
_SILENT = "e.,;:!?"
"""At the end of a word: no syllable."""
_DIGIT_LETTERS = 4
"""A digit is spoken as a word of about so many letters."""
_SYLLABLE_LETTERS = 3
"""And a syllable as long as so many letters more: short words take longer than their letters say."""
_MARKS = ',.;:!?…–—-)"”»，、；：。！？'
"""After a word: a pause may follow."""
_PAUSE_STEPS = 10
"""Quiet for longer is one."""

Steps = NDArray[np.intp]


def weight(word: str) -> int:
    """How long a word is, in letters."""
    letters = sum(_DIGIT_LETTERS if each.isdigit() else each.isalpha() for each in word)
    letters = max(1, letters + 2 * sum(ord(each) >= 0x2E80 for each in word))
    plain = unicodedata.normalize("NFD", word.lower())
    return letters + _SYLLABLE_LETTERS * max(1, len(_VOWELS.findall(plain.rstrip(_SILENT))))


def shared(words: Sequence[str], active: Steps, total: int) -> list[float]:
    """The step of the sound in which the middle of each word lies.

    ``active`` are those in which something is spoken, of so many in ``total``; they are shared out by letters and
    syllables. A word that has not come has no end of a time.
    """
    weights = [weight(word) for word in words]
    ends = accumulate(weights)
    places = (int((end - own / 2) / sum(weights) * total) for end, own in zip(ends, weights, strict=True))
    return [float(active[place]) if place < len(active) else np.inf for place in places]


def aligned(words: Sequence[str], active: Steps) -> list[float]:
    """As ``shared``, of a whole sound: its pauses lie where the text has marks.

    The longest pauses cut it into stretches, at most as many as there are clauses; each has so many clauses that
    the lengths fit best, which is found by dynamic programming.
    """
    ends = [at for at, word in enumerate(words, 1) if word[-1] in _MARKS or at == len(words)]
    gaps = np.diff(active)
    (pauses,) = np.nonzero(gaps > _PAUSE_STEPS)
    longest = sorted(pauses, key=lambda at: -int(gaps[at]))[: len(ends) - 1]
    stretches = np.split(active, sorted(int(at) + 1 for at in longest))
    until = [0, *accumulate(weight(word) for word in words)]
    rate = len(active) / until[-1]
    best: dict[int, tuple[float, tuple[int, ...]]] = {
        0: (0.0, (0,))
    }  # by the words so far: the cost, and where stretches end
    for stretch in stretches:
        best = {
            end: min(
                (cost + abs(rate * (until[end] - until[begin]) - len(stretch)), (*cuts, end))
                for begin, (cost, cuts) in best.items()
                if begin < end
            )
            for end in ends
            if end > min(best)
        }
    _, cuts = best[len(words)]
    out = list[float]()
    for stretch, (begin, end) in zip(stretches, pairwise(cuts), strict=True):
        out += shared(words[begin:end], stretch, len(stretch))
    return out
