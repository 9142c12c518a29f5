"""Sentences out of a stream of text, each as soon as it is whole: it is spoken while the next one is written."""

from __future__ import annotations

import re

LONGEST = 400
"""Characters of a sentence; a longer one is cut at a comma or a space."""
_ABBREVIATIONS = {"mr", "mrs", "ms", "dr", "prof", "st", "no", "vs", "e.g", "i.e", "etc", "jr", "sr", "inc"}
_ABBREVIATIONS |= {"ltd", "co", "approx", "dept", "fig", "bzw", "z.b", "d.h", "ca", "nr"}
_END = re.compile(r"[.!?…]+[\"')\]»”’]*(?=\s)|[。！？]+[」』”’]*|\n+")
_CLAUSE = re.compile(r"[,;:、，](?=\s|\S)|\s")


class Sentences:
    """Sans-IO: ``feed`` takes text as it comes and returns the sentences that it completes; ``flush`` the rest.

    A full stop ends a sentence where white space follows and neither an abbreviation nor an initial precedes.
    """

    def __init__(self) -> None:
        self._text = ""

    def feed(self, text: str) -> list[str]:
        """More of the text."""
        self._text += text
        out: list[str] = []
        while (end := self._end()) is not None:
            sentence, self._text = self._text[:end].strip(), self._text[end:].lstrip()
            if sentence:
                out.append(sentence)
        return out

    @property
    def expected(self) -> str:
        """The sentence that is whole if white space comes next; "" where none is."""
        ahead = Sentences()
        ahead._text = self._text
        return next(iter(ahead.feed(" ")), "")

    def flush(self) -> list[str]:
        """The text is over."""
        rest = self.feed("\n")
        self._text = ""
        return rest

    def _end(self) -> int | None:
        for match in _END.finditer(self._text):
            if not self._goes_on(match):
                return match.end() if match.end() <= LONGEST else self._clause()
        return self._clause() if len(self._text) > LONGEST else None

    def _goes_on(self, match: re.Match[str]) -> bool:
        if match.group() != ".":
            return False
        before = self._text[: match.start()].rsplit(None, 1)
        word = before[-1].lower() if before and not self._text[: match.start()].endswith(" ") else ""
        return word.strip("(\"'") in _ABBREVIATIONS or (len(word) == 1 and word.isalpha() and word != "i")

    def _clause(self) -> int:
        ends = [match.end() for match in _CLAUSE.finditer(self._text, LONGEST // 4, LONGEST)]
        marks = [end for end in ends if not self._text[end - 1].isspace()]
        return (marks or ends or [LONGEST])[-1]
