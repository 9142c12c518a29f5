"""Numbers that are said but not written down: of payment cards (ISO/IEC 7812-1), and keys that are read back."""

from __future__ import annotations

import re
from collections.abc import Iterable

from orchestrator.assistants.slots import digits_in

HIDDEN = "[number]"
_SHORTEST_CARD, _LONGEST_CARD = 13, 19
_MOST_LOOKED_AT = 64
"""Digits in a row; among more there is some number that could be one."""
_FEWEST_KEYS = 3
_DIGIT = r"(?:\d+|\b(?:zero|oh|one|two|three|four|five|six|seven|eight|nine|double|triple)\b)"
_NUMBER = re.compile(rf"{_DIGIT}(?:[\s,.:/-]+{_DIGIT})*", re.I)


def written(text: str, typed: Iterable[str] = ()) -> str:
    """The text without them; ``typed``: what the caller has pressed."""
    keys = [digits for each in typed if len(digits := digits_in(each)) >= _FEWEST_KEYS]

    def shown(found: re.Match[str]) -> str:
        digits = digits_in(found[0])
        return HIDDEN if _has_card(digits) or any(each in digits for each in keys) else found[0]

    return _NUMBER.sub(shown, text)


def _has_card(digits: str) -> bool:
    """Whether there may be one among them: an expiry date or the like may stand beside it."""
    if len(digits) > _MOST_LOOKED_AT:
        return True
    lengths = range(_SHORTEST_CARD, min(_LONGEST_CARD, len(digits)) + 1)
    return any(_checks(digits[at : at + n]) for n in lengths for at in range(len(digits) - n + 1))


def _checks(digits: str) -> bool:
    """Luhn's formula, annex B of the standard."""
    doubled = (int(each) * (1 + at % 2) for at, each in enumerate(reversed(digits)))
    return sum(each // 10 + each % 10 for each in doubled) % 10 == 0 and len(set(digits)) > 1
