"""Where words lie in a sound whose voice does not tell."""

from __future__ import annotations

import re
import unicodedata
from collections import deque
from collections.abc import Sequence
from itertools import accumulate, pairwise
from math import inf

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
    cuts = nearest_cuts(
        [until[at] * len(active) for at in (0, *ends)], [until[-1] * len(each) for each in stretches]
    )
    borders = [(0, *ends)[cut] for cut in cuts]
    out = list[float]()
    for stretch, (begin, end) in zip(stretches, pairwise(borders), strict=True):
        out += shared(words[begin:end], stretch, len(stretch))
    return out


def nearest_cuts(places: Sequence[int], lengths: Sequence[int]) -> list[int]:
    """Which of the ascending places, the first and the last among them, lie most nearly so far from each other.

    By dynamic programming, in time that grows with the product of both; of several ways the first ones are taken.
    To tell those apart each cost has the rank of its way as its last digit, to the base ``size``.
    """
    size = len(places)
    at = [size * place for place in places]
    costs: list[float] = [0, *[inf] * (size - 1)]
    by_rank, before = [0], list[list[int]]()
    for length in lengths:
        cheapest, near, far, far_cost = list[float](), deque[int](), 0, inf
        for end in range(size):
            # From places that are near to this end it is too short a way, from those that are far long enough.
            if end and costs[end - 1] < inf:
                while near and costs[near[-1]] + at[near[-1]] > costs[end - 1] + at[end - 1]:
                    near.pop()
                near.append(end - 1)
            begin = at[end] - size * length
            while far < end and at[far] <= begin:
                far_cost = min(far_cost, costs[far] - at[far])
                far += 1
            while near and near[0] < far:
                near.popleft()
            near_cost = costs[near[0]] + at[near[0]] if near else inf
            cheapest.append(min(far_cost + begin, near_cost - begin))
        come = [end for end in range(size) if cheapest[end] < inf]
        before.append([by_rank[int(cost % size)] if cost < inf else 0 for cost in cheapest])
        by_rank = sorted(come, key=lambda end: (cheapest[end] % size, end))
        costs = [inf] * size
        for rank, end in enumerate(by_rank):
            costs[end] = cheapest[end] // size * size + rank
    cuts = [size - 1]
    for ways in reversed(before):
        cuts.append(ways[cuts[-1]])
    return cuts[::-1]
