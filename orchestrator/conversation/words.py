"""What a caller's words are like: whether they are at an end, mere listening noises, digits, or our own in an echo.

English, since that is what is recognised.
"""

from __future__ import annotations

import re

CLOSED_S = 0.25
"""Quiet after which a sentence that is at its end is answered."""
OPEN_S = 0.7
"""After one that is not."""
DICTATED_S = 1.2
"""While a number, a name or a spelling is dictated, or where one was asked for."""


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_LAST_OPEN = _set(
    "a an the and or but to of for in on at with my your his our their i we if because so then "
    "from by as um uh er like about into than when where who which"
)
_BACKCHANNELS = _set(
    "mhm mmhm mm hm hmm hmmm mmm uh-huh uhhuh huh uh um ah aha oh yeah yep yes yup ok okay right sure good great "
    "fine cool wow really exactly true alright mm-hmm mm-hm i see got it nice perfect so well go on"
)
_DIGITS = _set("zero oh one two three four five six seven eight nine ten double triple")
_DICTATION = re.compile(
    r"\b(numbers?|digits?|codes?|names?|spell|letters?|e-?mail|address|date of birth|postcode|zip|phone)\b",
    re.I,
)
_WORD = re.compile(r"[a-z0-9'-]+")
_MOST_BACKCHANNEL_WORDS = 3


def words_of(text: str) -> list[str]:
    """Its words in lower case, without marks."""
    return _WORD.findall(text.lower().replace("’", "'"))


def closed(text: str) -> bool:
    """Whether a sentence is at its end: it ends with a mark, and with no word that asks for another one."""
    words = words_of(text)
    return bool(words) and text.rstrip()[-1] in ".?!" and words[-1] not in _LAST_OPEN


def dictates(text: str) -> bool:
    """Whether most of it are digits or letters on their own."""
    words = words_of(text)
    single = sum(each in _DIGITS or each.isdigit() or (len(each) == 1 and each not in "ai") for each in words)
    return bool(words) and (2 * single > len(words) or words[-1].isdigit() or words[-1] in _DIGITS)


def asks_for_dictation(text: str) -> bool:
    """Whether the last sentence of what was said to the caller asks for a number, a name or a spelling."""
    last = re.split(r"(?<=[.!?])\s+", text.strip())[-1]
    return last.endswith("?") and bool(_DICTATION.search(last))


def quiet_needed(text: str, asked: str) -> float:
    """Seconds of quiet after which ``text``, said in answer to ``asked``, is at its end."""
    if dictates(text) or asks_for_dictation(asked):
        return DICTATED_S
    return CLOSED_S if closed(text) else OPEN_S


def is_backchannel(text: str) -> bool:
    """Whether it only shows that somebody listens."""
    words = words_of(text)
    return len(words) <= _MOST_BACKCHANNEL_WORDS and all(each in _BACKCHANNELS for each in words)


def is_echo(text: str, speaking: str) -> bool:
    """Whether it is part of what is being said to the caller: three words or more, and hardly another one."""
    words, ours = words_of(text), set(words_of(speaking))
    return len(words) >= 3 and sum(each in ours for each in words) >= 0.8 * len(words)
