"""What the control process and the listening process say to each other (``visavis.service.ipc``)."""

from __future__ import annotations

import typing
from dataclasses import dataclass

from orchestrator.listening.stt import SttSettings, TimedWord
from visavis.service.breaker import ServiceState
from visavis.service.ipc import Codec


@dataclass(frozen=True, slots=True)
class RecogniseWith:
    """The first message: the service that recognises, besides the recogniser that is installed."""

    settings: SttSettings


@dataclass(frozen=True, slots=True)
class ListeningReady:
    """The process hears; ``recognises``: and knows words, else one sentence says why not."""

    pid: int
    recognises: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class OpenEar:
    """A call is listened to from now on, in this language (BCP 47)."""

    call_id: str
    language: str


@dataclass(frozen=True, slots=True)
class Hear:
    """A stretch of a call, 16-bit little-endian mono PCM: the caller's voice at 16 kHz, from sample ``position`` of
    the call on; then, in ``reference`` bytes, what the caller was sent meanwhile, at ``rate`` Hz. ``behind``:
    samples for which the voice had waited."""

    call_id: str
    position: int
    reference: int
    rate: int
    payload: bytes = b""
    behind: int = 0


@dataclass(frozen=True, slots=True)
class TakeUtterance:
    """The utterance that paused with this number is over."""

    call_id: str
    pause: int


@dataclass(frozen=True, slots=True)
class CloseEar:
    """A call is over."""

    call_id: str


@dataclass(frozen=True, slots=True)
class SpeechOnset:
    """Somebody may begin to speak over what the caller is sent, for 32 ms by now; ``lapsed``: it was nothing."""

    call_id: str
    lapsed: bool


@dataclass(frozen=True, slots=True)
class SpeechBegan:
    """Somebody speaks, for 96 ms by now; ``again``: after a pause, in the same utterance."""

    call_id: str
    again: bool


@dataclass(frozen=True, slots=True)
class SpeechPaused:
    """Speech has paused for ``quiet_ms``; its words come as :class:`Words` under the same number."""

    call_id: str
    pause: int
    quiet_ms: int


@dataclass(frozen=True, slots=True)
class EarlyWords:
    """What may be all that was said over what the caller is sent, as soon as it is known: speech has not paused for
    long enough yet."""

    call_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Words:
    """What was said up to a pause; ``took_ms``: how long that took to recognise, ``words`` when each word was said,
    where that is known. ``failed``: nobody could recognise it."""

    call_id: str
    pause: int
    text: str
    took_ms: int
    words: tuple[TimedWord, ...] = ()
    failed: bool = False


@dataclass(frozen=True, slots=True)
class RecognitionService:
    """How the service that recognises does, whenever that changes."""

    state: ServiceState


@dataclass(frozen=True, slots=True)
class AskListening:
    """Each second; answered by ``ListeningTurns``."""


@dataclass(frozen=True, slots=True)
class ListeningTurns:
    """The process turns."""


@dataclass(frozen=True, slots=True)
class EndListening:
    """Exit."""


EarMessage = (
    RecogniseWith | ListeningReady | OpenEar | Hear | TakeUtterance | CloseEar | SpeechOnset | SpeechBegan
    | EarlyWords | SpeechPaused | Words | RecognitionService | AskListening | ListeningTurns | EndListening
)  # fmt: skip
codec = Codec[EarMessage](*typing.get_args(EarMessage))
