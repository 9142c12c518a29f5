"""What the turn machine has done: orders to whoever holds the assistant, the voice and the ear of a call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["listening", "thinking", "speaking", "held"]
Way = Literal["none", "duck", "hold"]
"""How the voice gives way to whoever speaks over it."""


@dataclass(frozen=True, slots=True)
class Ask:
    """Have the assistant begin with a reply to ``text``; nothing of it is spoken or done yet."""

    reply: int
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The caller's turn is over, and ``text`` was said, or pressed as keys: speak this reply as it is written."""

    reply: int
    text: str
    keys: bool = False


@dataclass(frozen=True, slots=True)
class Drop:
    """Nobody wants this reply any more. ``unsay``: the caller's words come again, as part of more."""

    reply: int
    unsay: bool = False


@dataclass(frozen=True, slots=True)
class Take:
    """Tell the ear that the utterance that paused with this number is over."""

    pause: int


@dataclass(frozen=True, slots=True)
class Yield:
    """How loud the voice is from now on, see ``GiveWay``."""

    how: Way


@dataclass(frozen=True, slots=True)
class CutShort:
    """Drop what is being said and what waits to be."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What the caller has said so far, to be shown."""

    text: str


@dataclass(frozen=True, slots=True)
class Fill:
    """The reply takes long: one sentence meanwhile."""

    reply: int


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The reply has not come: somebody else has to answer."""

    reply: int


@dataclass(frozen=True, slots=True)
class Unheard:
    """The caller has said something that nobody recognised: ask for it again."""


Act = Ask | Answer | Drop | Take | Yield | CutShort | Partial | Fill | GiveUp | Unheard
