"""What the control process and a media worker say to each other (``visavis.service.ipc``)."""

from __future__ import annotations

import typing
from dataclasses import dataclass, field
from typing import Any

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import SessionStats
from orchestrator.worker.host import HostSettings
from visavis.service.ipc import Codec


@dataclass(frozen=True, slots=True)
class Setup:
    """First message to a worker. ``factory`` names a call factory as ``module:function``."""

    host: HostSettings
    factory: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker's clock ticks."""

    pid: int


@dataclass(frozen=True, slots=True)
class OpenCall:
    """Open the ports of a call; answered by ``CallOpened`` or ``CallRefused``."""

    call_id: str
    video: bool = True


@dataclass(frozen=True, slots=True)
class CallOpened:
    """Local ports of a call; RTCP is one above."""

    call_id: str
    audio_port: int
    video_port: int | None


@dataclass(frozen=True, slots=True)
class CallRefused:
    """No ports, or no room; one clear sentence."""

    call_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class ConfigureCall:
    """What was negotiated: before ``StartCall``, and after each re-INVITE."""

    call_id: str
    audio: AudioParameters
    video: VideoParameters | None


@dataclass(frozen=True, slots=True)
class StartCall:
    """Hand the call to its owner and begin to send. ``options`` and ``payload`` are the owner's."""

    call_id: str
    options: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class CloseCall:
    """End a call; answered by ``CallClosed``."""

    call_id: str


@dataclass(frozen=True, slots=True)
class CallClosed:
    """A call's ports are free again; its last figures."""

    call_id: str
    stats: SessionStats | None


@dataclass(frozen=True, slots=True)
class RequestKeyframe:
    """The peer asked for a key frame in SIP INFO (RFC 5168)."""

    call_id: str


@dataclass(frozen=True, slots=True)
class SendDigits:
    """Press keys in the call (RFC 4733); what cannot be pressed is answered by ``DigitsRefused``."""

    call_id: str
    digits: str
    milliseconds: int = 100


@dataclass(frozen=True, slots=True)
class DigitsRefused:
    """One clear sentence."""

    call_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Listen:
    """Whether the caller's voice is wanted from now on; it comes as ``Heard``."""

    call_id: str
    wanted: bool


@dataclass(frozen=True, slots=True)
class Heard:
    """The caller's voice, 16-bit little-endian mono PCM at 16 kHz; ``position`` counts samples since it
    was first wanted, those that were left out included."""

    call_id: str
    position: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Command:
    """For the owner of a call, or for the factory where ``call_id`` is empty; the worker only passes it on."""

    call_id: str
    name: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Notice:
    """From the owner of a call, or from the factory where ``call_id`` is empty."""

    call_id: str
    name: str
    data: dict[str, Any] = field(default_factory=dict)
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class Digit:
    """The caller pressed a key."""

    call_id: str
    digit: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class CallFailed:
    """The call cannot go on in this worker: end it."""

    call_id: str
    reason: str


@dataclass(frozen=True, slots=True)
class CallFigures:
    """A call's figures, every few seconds."""

    call_id: str
    stats: SessionStats


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Once a second: the health of the worker. Lateness in seconds over the last second; ``video_p99`` is
    how long live pictures took from due to sent."""

    calls: int
    ports: int
    overloaded: bool
    encoders: float
    divider: int
    lateness_p50: float
    lateness_p99: float
    lateness_max: float
    encode_ms: float
    video_p99: float = 0.0


@dataclass(frozen=True, slots=True)
class Shutdown:
    """End every call and exit."""


Message = (
    Setup | WorkerReady | OpenCall | CallOpened | CallRefused | ConfigureCall | StartCall | CloseCall
    | CallClosed | RequestKeyframe | SendDigits | DigitsRefused | Listen | Heard | Command | Notice | Digit
    | CallFailed | CallFigures | Heartbeat | Shutdown
)  # fmt: skip
codec = Codec[Message](*typing.get_args(Message))
