"""What the control process and the recorder say to each other (``visavis.service.ipc``)."""

from __future__ import annotations

import typing
from dataclasses import dataclass

from visavis.service.ipc import Codec


@dataclass(frozen=True, slots=True)
class RecorderReady:
    """The process takes recordings."""

    pid: int


@dataclass(frozen=True, slots=True)
class Record:
    """Begin to record a call into ``folder``, as parts from ``number`` on; ``picture``: one is to be expected.
    ``key_file``: with its key the files are encrypted, "": they are not."""

    call_id: str
    folder: str
    number: int
    picture: bool
    key_file: str = ""


@dataclass(frozen=True, slots=True)
class RecordedSound:
    """20 ms of a call, see :class:`orchestrator.worker.messages.Heard`; without ``payload``, of a pause."""

    call_id: str
    piece: int
    reference: int
    rate: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class RecordedPicture:
    """A picture as it was sent: H.264 in Annex B, ``ticks`` of 90 kHz after piece 0 of the sound."""

    call_id: str
    ticks: int
    key: bool
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class EndRecording:
    """Nothing more of this call."""

    call_id: str


@dataclass(frozen=True, slots=True)
class PartState:
    """A part of a recording has begun, with ``piece`` as its first 20 ms, or is ``over``: how long and large it is.
    Width and height are 0 without a picture."""

    call_id: str
    number: int
    piece: int
    seconds: float
    size: int
    width: int
    height: int
    over: bool


@dataclass(frozen=True, slots=True)
class RecordingEnded:
    """The answer to ``EndRecording``: every part is over."""

    call_id: str


@dataclass(frozen=True, slots=True)
class RecordingFailed:
    """A call is not recorded any more: one sentence."""

    call_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class AskRecorder:
    """Each second; answered by ``RecorderTurns``."""


@dataclass(frozen=True, slots=True)
class RecorderTurns:
    """The process turns."""


@dataclass(frozen=True, slots=True)
class EndRecorder:
    """Close every file and exit."""


RecorderMessage = (
    RecorderReady | Record | RecordedSound | RecordedPicture | EndRecording | PartState | RecordingEnded
    | RecordingFailed | AskRecorder | RecorderTurns | EndRecorder
)  # fmt: skip
codec = Codec[RecorderMessage](*typing.get_args(RecorderMessage))
