"""What a script asks for, out of what callers say: names, numbers, yes or no."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["name", "digits", "yes", "words"]
_DIGITS = {"zero": "0", "oh": "0", "o": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5"}
_DIGITS |= {"six": "6", "seven": "7", "eight": "8", "nine": "9", "for": "4", "to": "2", "too": "2"}
_TIMES = {"double": 2, "triple": 3}
_INTRODUCTION = re.compile(
    r"^(hi|hello|sure|yes|okay|well|so|um|uh|it's|it is|that's|that is|this is|i'm|i am|my name is|my name's|"
    r"the name is|call me|you can call me|please|write down)\b[\s,.]*",
    re.I,
)
_YES = re.compile(r"\b(yes|yeah|yep|sure|please|okay|ok|right|correct|of course|fine|do it)\b", re.I)
_NO = re.compile(r"\b(no|nope|not|don't|never|wrong|cancel|stop)\b", re.I)
_LONGEST_NAME = 4


def take(kind: Kind, text: str, least: int = 1) -> str | None:
    """The value in an answer; None where there is none. ``least``: digits that a number has."""
    match kind:
        case "digits":
            digits = digits_in(text)
            return digits if len(digits) >= least else None
        case "name":
            return name_in(text)
        case "yes":
            return "no" if _NO.search(text) else "yes" if _YES.search(text) else None
        case "words":
            return text.strip() or None


def digits_in(text: str) -> str:
    """``double five, oh seven`` is 5507."""
    out, times = "", 1
    for word in re.findall(r"[a-z]+|\d", text.lower()):
        if word in _TIMES:
            times = _TIMES[word]
            continue
        digit = word if word.isdigit() else _DIGITS.get(word, "")
        out, times = out + digit * times, 1
    return out


def name_in(text: str) -> str | None:
    """``Hi, my name is anna smith.`` is Anna Smith; a sentence of many words is no name."""
    rest = text.strip()
    while (shorter := _INTRODUCTION.sub("", rest)) != rest:
        rest = shorter
    words = re.findall(r"[^\W\d_]+(?:['’-][^\W\d_]+)*", rest)
    if not 1 <= len(words) <= _LONGEST_NAME:
        return None
    return " ".join(word if any(each.isupper() for each in word[1:]) else word.capitalize() for word in words)
