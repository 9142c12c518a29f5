"""What the control process and the voices process say to each other (``visavis.service.ipc``)."""

from __future__ import annotations

import typing
from dataclasses import dataclass

from visavis.service.ipc import Codec


@dataclass(frozen=True, slots=True)
class VoicesReady:
    """The process can speak."""

    pid: int


@dataclass(frozen=True, slots=True)
class Speak:
    """Speak a sentence; answered by ``Spoken``, or ``NotSpoken``."""

    number: int
    voice: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Forget:
    """A sentence is not wanted any more."""

    number: int


@dataclass(frozen=True, slots=True)
class Spoken:
    """A sentence, trimmed and levelled: 16-bit little-endian mono PCM at ``rate`` Hz; ``middles_ms`` of its words
    where the voice tells them."""

    number: int
    rate: int
    middles_ms: tuple[float, ...]
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class NotSpoken:
    """One clear sentence."""

    number: int
    reason: str


@dataclass(frozen=True, slots=True)
class Ping:
    """Each second; answered by ``Pong``."""


@dataclass(frozen=True, slots=True)
class Pong:
    """The process turns."""


@dataclass(frozen=True, slots=True)
class EndVoices:
    """Exit."""


VoiceMessage = VoicesReady | Speak | Forget | Spoken | NotSpoken | Ping | Pong | EndVoices
codec = Codec[VoiceMessage](*typing.get_args(VoiceMessage))
