"""What the control process and a media worker say to each other (``visavis.service.ipc``)."""

from __future__ import annotations

import typing
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import SessionStats
from orchestrator.rtp.bundle import BundleAgreement
from orchestrator.worker.host import HostSettings
from visavis.client.credentials import ServerCredentials
from visavis.client.model import Avatar, FitMode
from visavis.service.ipc import Codec

_OF_THIS_MACHINE = ServerCredentials()
Progress = Literal["preparing", "waiting", "coding", "ready", "failed"]
"""How far a portrait is on its way to an avatar."""
FaceState = Literal["", "idle", "listening", "thinking", "speaking"]
"""What the face of a call does, as a conversation knows it; "": nobody knows, so the caller's voice tells."""


@dataclass(frozen=True, slots=True)
class AvatarSettings:
    """Where a worker's avatars come from and how calls show them: ``width`` x ``height`` pixels, ``fps`` pictures a
    second, at most ``bitrate`` bits a second, with ``mark`` in the corner.

    ``nameserver`` (ip or ip:port) finds the ``servers``, "" is the system's; bodies take ``cache_bytes`` of the
    folder ``cache``. ``credentials`` are what the servers are shown: files, no token itself.
    """

    servers: tuple[str, ...]
    cache: str
    cache_bytes: int
    width: int
    height: int
    fps: Fraction
    bitrate: int
    fit: FitMode = "crop"
    nameserver: str = ""
    credentials: ServerCredentials = _OF_THIS_MACHINE
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Setup:
    """First message to a worker. ``factory`` names a call factory as ``module:function``."""

    host: HostSettings
    factory: str = ""
    avatar: AvatarSettings | None = None
    log_level: str = "info"


@dataclass(frozen=True, slots=True)
class WorkerReady:
    """The worker's clock ticks."""

    pid: int


@dataclass(frozen=True, slots=True)
class CallMessage:
    """Of one call, in either direction."""

    call_id: str


@dataclass(frozen=True, slots=True)
class OpenCall(CallMessage):
    """Open the ports of a call, with ``bundle`` one for all its streams; answered by ``CallOpened`` or
    ``CallRefused``."""

    video: bool = True
    bundle: bool = False


@dataclass(frozen=True, slots=True)
class CallOpened(CallMessage):
    """Local ports of a call; RTCP is one above, or on the same one in a bundle."""

    audio_port: int
    video_port: int | None


@dataclass(frozen=True, slots=True)
class CallRefused(CallMessage):
    """No ports, or no room; one clear sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class OpenVideo(CallMessage):
    """Open video ports of a call that has none; answered by ``VideoOpened``."""


@dataclass(frozen=True, slots=True)
class VideoOpened(CallMessage):
    """A call's video port, RTCP one above; ``None`` where there is none to be had."""

    port: int | None


@dataclass(frozen=True, slots=True)
class CloseVideo(CallMessage):
    """Close video ports that nothing was agreed for; does nothing to a picture that is sent."""


@dataclass(frozen=True, slots=True)
class ConfigureCall(CallMessage):
    """What was negotiated: before ``StartCall``, and after each re-INVITE. Without video its ports are closed."""

    audio: AudioParameters
    video: VideoParameters | None
    bundle: BundleAgreement | None = None


@dataclass(frozen=True, slots=True)
class MediaSecured(CallMessage):
    """The handshake of a bundle is over: what is sent from now on is heard."""


@dataclass(frozen=True, slots=True)
class MediaLost(CallMessage):
    """A bundle's peer said goodbye, is gone or cannot be reached, or is not the one that signalling spoke to. One
    clear sentence."""

    how: Literal["left", "lost", "failed"]
    reason: str


@dataclass(frozen=True, slots=True)
class StartCall(CallMessage):
    """Hand the call to its owner and begin to send: the avatar of ``portrait`` (path) at ``fps``, shown ``trim_ms``
    later than the voice is heard. Without ``sends`` nothing is sent before another one comes."""

    portrait: str = ""
    fps: Fraction = Fraction(25)
    trim_ms: int = 0
    sends: bool = True


@dataclass(frozen=True, slots=True)
class CloseCall(CallMessage):
    """End a call; answered by ``CallClosed``."""


@dataclass(frozen=True, slots=True)
class CallClosed(CallMessage):
    """A call's ports are free again; its last figures."""

    stats: SessionStats | None


@dataclass(frozen=True, slots=True)
class RequestKeyframe(CallMessage):
    """The peer asked for a key frame in SIP INFO (RFC 5168)."""


@dataclass(frozen=True, slots=True)
class SendDigits(CallMessage):
    """Press keys in the call (RFC 4733); what cannot be pressed is answered by ``DigitsRefused``."""

    digits: str
    milliseconds: int = 100


@dataclass(frozen=True, slots=True)
class DigitsRefused(CallMessage):
    """One clear sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class Listen(CallMessage):
    """Whether the caller's voice is wanted from now on; it comes as ``Heard``. ``always``: also before the caller
    has sent any, as silence, for the sake of what the caller is sent."""

    wanted: bool
    always: bool = False


@dataclass(frozen=True, slots=True)
class View(CallMessage):
    """Whether the pictures that the caller is sent are wanted from now on; they come as ``Viewed``."""

    wanted: bool


@dataclass(frozen=True, slots=True)
class Viewed(CallMessage):
    """One picture as it left for the caller: H.264 in Annex B; ``timestamp`` at 90 kHz, ``key``: with an IDR.
    ``start`` is the time stamp at the call's first 20 ms of sound."""

    timestamp: int
    key: bool
    payload: bytes = b""
    start: int = 0


@dataclass(frozen=True, slots=True)
class Heard(CallMessage):
    """The caller's voice, 16-bit little-endian mono PCM at 16 kHz; ``position`` counts samples since it
    was first wanted, those that were left out included. In the last ``reference`` bytes what the caller was sent
    at that time, at ``rate`` Hz: of which an echo would be. ``piece`` counts the call's 20 ms steps at its end;
    ``behind``: samples for which the voice had waited for those before it."""

    position: int
    payload: bytes = b""
    reference: int = 0
    rate: int = 0
    piece: int = 0
    behind: int = 0


@dataclass(frozen=True, slots=True)
class StartTurn(CallMessage):
    """A turn of speech, which is spoken after those before it."""

    turn_id: int


@dataclass(frozen=True, slots=True)
class TurnAudio(CallMessage):
    """A stretch of a turn's sound, 16-bit little-endian mono PCM: ``split`` bytes at 16 kHz for the lips, then the
    same stretch at the codec's rate for the caller."""

    turn_id: int
    split: int
    payload: bytes = b""


@dataclass(frozen=True, slots=True)
class EndTurn(CallMessage):
    """No more sound comes for a turn."""

    turn_id: int


@dataclass(frozen=True, slots=True)
class InterruptTurns(CallMessage):
    """Silence and a still mouth now; every turn of the call is dropped."""


@dataclass(frozen=True, slots=True)
class GiveWay(CallMessage):
    """How the turns of a call are spoken from now on, since somebody else speaks: as they are, more quietly
    (``duck``), or not at all, to go on later where they stopped (``hold``)."""

    how: Literal["none", "duck", "hold"]


@dataclass(frozen=True, slots=True)
class ShowAvatar(CallMessage):
    """The call shows the avatar of another ``portrait`` (path) at ``fps`` from now on: between turns, once it is
    ready."""

    portrait: str
    fps: Fraction


@dataclass(frozen=True, slots=True)
class ShowState(CallMessage):
    """What the face of the call does from now on while nothing is said."""

    state: FaceState


@dataclass(frozen=True, slots=True)
class TurnReport(CallMessage):
    """What happened to a turn. ``heard_ms``: how much of its sound the caller was sent; ``wait_ms``: from its first
    sound to its start, and ``in_ms`` from now on."""

    event: Literal["started", "stalled", "resumed", "finished", "interrupted"]
    turn_id: int
    heard_ms: float = 0.0
    wait_ms: float = 0.0
    in_ms: float = 0.0


@dataclass(frozen=True, slots=True)
class AvatarState(CallMessage):
    """A call's avatar is ``ready | connected | lost | rejected | failed``, and one sentence."""

    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class LipsStats:
    """A call's lips so far; ``first_frame_ms`` is the 95th percentile of what first frames took."""

    frames_shown: int = 0
    frames_late: int = 0
    frames_dropped: int = 0
    freeze_ms: float = 0.0
    first_frame_ms: float | None = None


@dataclass(frozen=True, slots=True)
class LipsFigures(CallMessage):
    """The figures of a call's lips, after each turn."""

    stats: LipsStats


@dataclass(frozen=True, slots=True)
class AvatarPrepared:
    """For every worker: what the control process had prepared of a ``portrait`` (path)."""

    portrait: str
    avatar: Avatar


@dataclass(frozen=True, slots=True)
class PrepareState:
    """How far a worker (its pid) is with an avatar, named by the digest of its source ("" before it is read)."""

    worker: int
    digest: str
    state: Progress
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TaskFailed:
    """A background task of a worker ended unexpectedly."""

    task: str
    reason: str


@dataclass(frozen=True, slots=True)
class Digit(CallMessage):
    """The caller pressed a key."""

    digit: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class CallFailed(CallMessage):
    """The call cannot go on in this worker: end it."""

    reason: str


@dataclass(frozen=True, slots=True)
class CallFigures(CallMessage):
    """A call's figures, every few seconds."""

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


ToOwner = StartTurn | TurnAudio | EndTurn | InterruptTurns | GiveWay | ShowAvatar | ShowState
"""For the owner of a call: the worker only passes it on."""
ToFactory = AvatarPrepared
"""For the factory of a worker's calls."""
Message = (
    Setup | WorkerReady | CallMessage | OpenCall | CallOpened | CallRefused | OpenVideo | VideoOpened | CloseVideo
    | ConfigureCall | StartCall | CloseCall | CallClosed | RequestKeyframe | SendDigits | DigitsRefused | Listen
    | View | Viewed | Heard | StartTurn | TurnAudio | EndTurn | InterruptTurns | GiveWay | ShowAvatar | ShowState
    | TurnReport | AvatarState | LipsFigures | AvatarPrepared | PrepareState | TaskFailed | Digit | CallFailed
    | CallFigures | MediaSecured | MediaLost | Heartbeat | Shutdown
)  # fmt: skip
codec = Codec[Message](*typing.get_args(Message))
