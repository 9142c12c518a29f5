"""What a caller said just before: who stops in mid-sentence goes on with it, and words are known by others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.listening.stt import RATE, Sound

LONGEST_S = 8.0
"""Of an utterance and those before it, as they are recognised at once: what it costs grows with that."""


@dataclass(frozen=True, slots=True)
class Understood:
    """An utterance, ``(n,)`` at 16 kHz, the tokens of the recogniser, and its words."""

    sound: Sound
    tokens: tuple[int, ...]
    text: str


class Context:
    """Of one call, for the recogniser that is installed."""

    def __init__(self) -> None:
        self._before: list[Understood] = []
        self._heard: Understood | None = None

    def before(self, goes_on: bool) -> tuple[Understood, ...]:
        """What comes before an utterance that is to be recognised; ``goes_on``: soon after the one before it."""
        if not goes_on:
            self._before.clear()
        self._heard = None
        return tuple(self._before)

    def heard(self, utterance: Understood) -> None:
        """It was recognised."""
        self._heard = utterance

    def take(self) -> None:
        """The utterance is over."""
        if self._heard is None:
            self._before.clear()
        else:
            self._before = fitting([*self._before, self._heard], 0)
        self._heard = None


def fitting(before: Sequence[Understood], samples: int) -> list[Understood]:
    """The latest of them that are not too long together with so many samples."""
    out = list(before)
    while out and sum(len(each.sound) for each in out) + samples > LONGEST_S * RATE:
        out.pop(0)
    return out
