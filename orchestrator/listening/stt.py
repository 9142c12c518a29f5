"""The seam for recognition by a service of others: one transcriber for each call, and the sound it is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
ANSWER_S = 2.5
"""From a pause to its words: who takes longer is given up, and the recogniser of our own answers within 3 s."""

Sound = NDArray[np.float32]


class SttError(Exception):
    """A service that does not recognise now: one clear sentence."""


@dataclass(frozen=True, slots=True)
class SttSettings:
    """``provider`` "" is the recogniser of our own alone. ``url`` is the root of the service."""

    provider: str = ""
    url: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    model: str = ""


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word and when it was said, in milliseconds from the beginning of its utterance."""

    text: str
    began_ms: int
    ended_ms: int


@dataclass(frozen=True, slots=True)
class Recognised:
    """What was said, and when each word was, where the service tells."""

    text: str
    words: tuple[TimedWord, ...] = ()


class Transcriber(Protocol):
    """One call's. Sounds are ``(n,)`` at 16 kHz, full scale 1.0."""

    def feed(self, sound: Sound) -> None:
        """More of the utterance, as it is said. Returns at once."""

    async def words(self, sound: Sound) -> Recognised:
        """What was said in the utterance so far, all of which is ``sound``. Raises :class:`SttError`."""
        ...

    def take(self) -> None:
        """The utterance is over: what comes is another one."""

    async def close(self) -> None:
        """The call is over."""


class SpeechToText(Protocol):
    """A service; serves all calls."""

    def transcriber(self, language: str, rate: int) -> Transcriber:
        """For a call in this language (BCP 47), whose codec has this rate in Hz."""
        ...

    async def close(self) -> None:
        """No call needs it any more."""


def pcm16(sound: Sound) -> bytes:
    """16-bit little-endian."""
    return np.clip(sound * 32768, -32768, 32767).astype("<i2").tobytes()
