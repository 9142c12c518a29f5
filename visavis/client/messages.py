"""What a conversation says and hears. Samples count 16 kHz mono audio from the start of a turn."""

from __future__ import annotations

from dataclasses import dataclass

from visavis.client.model import Opened, PixelFormat, Scope
from visavis.frames import Frame


@dataclass(frozen=True, slots=True)
class Open:
    """The first request. ``body_sha256`` names the client's copy of the body; empty if it has none."""

    avatar_id: str
    session_id: str = ""
    body_sha256: bytes = b""
    scope: Scope = "rectangle"
    pixel_format: PixelFormat = "i420"


@dataclass(frozen=True, slots=True)
class TurnStart:
    """A turn begins; frames that begin before ``render_from_sample`` are not wanted."""

    turn_id: int
    epoch: int
    render_from_sample: int = 0


@dataclass(frozen=True, slots=True)
class Audio:
    """A piece of the turn's PCM (s16le), contiguous with the one before."""

    turn_id: int
    epoch: int
    first_sample: int
    pcm: bytes


@dataclass(frozen=True, slots=True)
class EndOfTurn:
    """No more audio comes in this turn."""

    turn_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Anchor:
    """The body frame that is on screen when ``sample`` is heard."""

    turn_id: int
    epoch: int
    sample: int
    loop_index: int


@dataclass(frozen=True, slots=True)
class Playhead:
    """The sample that is heard now; negative while the turn is still to start."""

    turn_id: int
    epoch: int
    sample: int
    playing: bool


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Everything of an older epoch is dead."""

    epoch: int


Request = TurnStart | Audio | EndOfTurn | Anchor | Playhead | Interrupt


@dataclass(frozen=True, slots=True)
class TurnAccepted:
    """A server has taken the turn and will draw it."""

    turn_id: int


@dataclass(frozen=True, slots=True)
class TurnRejected:
    """No server has a free speaking slot for the turn now; the stream goes on trying while it lasts."""

    turn_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """Exactly one per turn that was not interrupted. ``late``: frames not drawn, their time was over."""

    turn_id: int
    frames: int
    late: int


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Everything older than ``epoch`` is gone on the server too."""

    epoch: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server drains; what still runs after ``deadline_ms`` is cut. The stream moves by itself."""

    reason: str
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Stats:
    """A server's own rolling figures."""

    queue_ms: int
    render_ms: int
    late: int


ServerMessage = Frame | TurnAccepted | TurnRejected | TurnFinished | Interrupted | GoAway | Stats


@dataclass(frozen=True, slots=True)
class Connected:
    """The stream has a server. ``resumed`` is the turn that goes on there, in mid-sentence."""

    address: str
    opened: Opened
    resumed: int | None = None


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The stream has lost its server, or never had one, and looks for another."""

    address: str | None
    reason: str


Event = ServerMessage | Connected | Disconnected
