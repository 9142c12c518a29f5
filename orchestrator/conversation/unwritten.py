"""Numbers that are said but not written down: of payment cards (ISO/IEC 7812-1), and keys that are read back."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate

from orchestrator.assistants.slots import digits_in

HIDDEN = "[number]"
_SHORTEST_CARD, _LONGEST_CARD = 13, 19
_CARD = re.compile(
    r"4\d{15}(?:\d{3})?|(?:5[1-5]|2[2-7]|8[12])\d{14}|3[47]\d{13}|3[0689]\d{12,17}|35\d{14,17}"
    r"|(?:50|5[6-9]|6\d)\d{11,17}|9792\d{12}"
)
"""Issuers: Visa; Mastercard, Mir, RuPay; American Express; Diners Club; JCB; Maestro, Discover, UnionPay; Troy."""
_MOST_LOOKED_AT = 64
"""Digits in a row; among more there is some number that could be one."""
_FEWEST_KEYS = 3
_GAP = r"[\s,.:/-]+"
_GROUP = (
    rf"(?:\b(?:double|triple){_GAP}){{0,2}}"
    r"(?:\d+|\b(?:zero|oh|one|two|three|four|five|six|seven|eight|nine)\b)"
)
_NUMBER = re.compile(rf"{_GROUP}(?:{_GAP}{_GROUP})*", re.I)
_GROUPS = re.compile(_GROUP, re.I)


def written(text: str, typed: Iterable[str] = ()) -> str:
    """The text without them; ``typed``: what the caller has pressed."""
    keys = [digits for each in typed if len(digits := digits_in(each)) >= _FEWEST_KEYS]

    def shown(found: re.Match[str]) -> str:
        groups = [digits_in(each) for each in _GROUPS.findall(found[0])]
        digits = "".join(groups)
        return HIDDEN if _has_card(groups) or any(each in digits for each in keys) else found[0]

    return _NUMBER.sub(shown, text)


def _has_card(groups: Sequence[str]) -> bool:
    """Whether there may be one that begins with a group: an expiry date or the like may stand beside it."""
    digits = "".join(str(int(each)) for group in groups for each in group)
    if len(digits) > _MOST_LOOKED_AT:
        return True
    lengths = range(_SHORTEST_CARD, _LONGEST_CARD + 1)
    starts = set(accumulate(map(len, groups), initial=0))
    return any(_checks(digits[at : at + n]) for at in starts for n in lengths if at + n <= len(digits))


def _checks(digits: str) -> bool:
    """An issuer's, with Luhn's formula, annex B of the standard."""
    if not _CARD.fullmatch(digits):
        return False
    doubled = (int(each) * (1 + at % 2) for at, each in enumerate(reversed(digits)))
    return sum(each // 10 + each % 10 for each in doubled) % 10 == 0 and len(set(digits)) > 1
