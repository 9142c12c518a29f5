"""The contract's messages as plain values, and the table that codecs read and write them by.

Made by `make proto` from protos/visavis/avatar/v1/avatar.proto: change that, not this.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal, NamedTuple

from visavis.frames import Rect, Sized

PixelFormat = Literal["i420", "rgb24"]
FrameScope = Literal["rectangle", "whole"]
Fit = Literal["crop", "contain"]
FrameKind = Literal["mouth", "body"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is taken here, and no more; 0: not told."""

    image_bytes: int
    image_pixels: int
    video_bytes: int
    video_ms: int  # the longest clip that is made an avatar
    audio_bytes: int  # PCM of one audio message
    turn_ms: int  # the longest turn
    idle_ms: int  # a stream that sends nothing for this long is closed
    window_ms: int  # how far past the playhead frames are rendered


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a server is and can do."""

    engine: str
    build: str  # digest of the engine's code and weights
    version: str
    pixel_formats: tuple[PixelFormat, ...]
    max_width: int
    max_height: int
    look_ahead_ms: int  # audio the engine needs beyond the end of a frame
    history_ms: int  # audio before a frame that still shapes it
    speaking_slots: int  # turns that are spoken at once
    max_sessions: int  # conversations; 0: no bound
    ready: bool
    draining: bool
    not_ready_reason: str  # one sentence, empty where all of it is ready
    limits: Limits


@dataclass(frozen=True, slots=True)
class Capacity:
    """How busy a server is; 0 slots or sessions: no bound."""

    speaking_slots: int
    speaking_slots_free: int
    sessions: int
    max_sessions: int
    ready: bool
    draining: bool
    avatar_ids: frozenset[str] = frozenset()  # prepared here, in memory or on disk
    not_ready_reason: str = ""  # one sentence, empty where all of it is ready


@dataclass(frozen=True, slots=True)
class Open:
    """The first request of a conversation."""

    avatar_id: str
    session_id: str = ""  # for logs
    body_sha256: bytes = b""  # of the client's copy of the body, empty if it has none
    scope: FrameScope = "rectangle"
    pixel_format: PixelFormat = "i420"
    width: int | None = None  # 0 or nothing: as prepared. Else must be what was prepared.
    height: int | None = None
    fps: Fraction | None = None
    # The client follows frames whose loop_index leaves the loop inside a turn: by one of the avatar's jumps,
    # or staying on a body frame that jumps lead to
    follows_path: bool = False


@dataclass(frozen=True, slots=True)
class TurnStart:
    """A turn begins."""

    turn_id: int  # new each time
    epoch: int
    # Frames that begin before this sample are not rendered: the audio from there back is history (a turn
    # resumed on another server)
    render_from_sample: int = 0


@dataclass(frozen=True, slots=True)
class Audio:
    """A piece of the turn's sound."""

    turn_id: int
    epoch: int
    first_sample: int  # of the turn; contiguous with the message before it
    pcm: bytes  # s16le mono 16 kHz


@dataclass(frozen=True, slots=True)
class EndOfTurn:
    """No more audio comes in this turn."""

    turn_id: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Anchor:
    """The body frame that is on screen when `audio_sample` is heard. Sent again when the body moved on while
    the audio stood still; frames from there on are drawn anew.
    """

    turn_id: int
    epoch: int
    audio_sample: int
    loop_index: int


@dataclass(frozen=True, slots=True)
class Playhead:
    """Absolute and idempotent, about once a frame: window, deadline and licence to drop."""

    turn_id: int
    epoch: int
    audio_sample: int  # negative: the turn starts in that many samples
    playing: bool = True


@dataclass(frozen=True, slots=True)
class Interrupt:
    """Everything of an older epoch is dead."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Avatar(Sized):
    """A prepared avatar: a loop of pictures of one size, and what an engine made of them."""

    avatar_id: str  # what the engine prepared: body, engine build, settings
    body_id: str  # image bytes, size, fps, build of the loop maker
    body_sha256: bytes  # SHA-256 of all loop frames in I420, in order; ETag of the body
    width: int
    height: int
    fps: Fraction  # frames per second as a fraction
    loop_length: int  # body frames
    jumps: tuple[tuple[int, int], ...] = ()  # [from, to]: after body frame from, to may follow
    segments: tuple[tuple[int, str], ...] = ()  # [start, kind]: what the body does from there on


@dataclass(frozen=True, slots=True)
class Opened:
    """The answer to Open: what was agreed."""

    avatar: Avatar
    pixel_format: PixelFormat
    scope: FrameScope  # WHOLE although RECTANGLE was asked for: the client's body differs (body_sha256).
    largest_rect: Rect | None  # no rectangle of this avatar is outside it
    look_ahead_ms: int  # audio the engine needs beyond the end of a frame
    history_ms: int  # audio before a frame that still shapes it
    window_ms: int  # how far past the playhead frames are rendered
    closing_frames: int  # frames after the end of a turn that bring the mouth to rest


@dataclass(frozen=True, slots=True)
class TurnRejected:
    """No speaking slot now: take the turn elsewhere, or speak without lips."""

    turn_id: int
    reason: str


@dataclass(frozen=True, slots=True)
class TurnFinished:
    """Exactly one for a turn that was not interrupted."""

    turn_id: int
    frames: int
    late: int  # frames not rendered because the playhead had passed them


@dataclass(frozen=True, slots=True)
class Interrupted:
    """Everything older than this epoch is gone on the server too."""

    epoch: int


@dataclass(frozen=True, slots=True)
class GoAway:
    """The server drains: open a conversation elsewhere."""

    reason: str
    deadline_ms: int  # what still runs then is cut


@dataclass(frozen=True, slots=True)
class Stats:
    """A server's own rolling figures."""

    queue_ms: int  # wait before a row is submitted, rolling p95
    render_ms: int  # rolling p95
    late: int


@dataclass(frozen=True, slots=True)
class TurnAccepted:
    """A server has taken the turn and will draw it."""

    turn_id: int


class Field(NamedTuple):
    """A field: ``kind`` is protobuf's word, ``enum``, ``message``, or the name of a message that is a plain value.

    ``of`` is the enum's name or the message's class. ``optional``: may be ``None``, and then does not travel.
    ``required``: JSON must have it. ``doc`` says what it is.
    """

    name: str
    kind: str
    of: Any = None
    repeated: bool = False
    optional: bool = False
    required: bool = True
    doc: str = ""


FIELDS: dict[type, tuple[Field, ...]] = {
    Limits: (
        Field("image_bytes", "uint64"),
        Field("image_pixels", "uint64"),
        Field("video_bytes", "uint64"),
        Field("video_ms", "uint32", doc="the longest clip that is made an avatar"),
        Field("audio_bytes", "uint32", doc="PCM of one audio message"),
        Field("turn_ms", "uint32", doc="the longest turn"),
        Field("idle_ms", "uint32", doc="a stream that sends nothing for this long is closed"),
        Field("window_ms", "uint32", doc="how far past the playhead frames are rendered"),
    ),
    Capabilities: (
        Field("engine", "string"),
        Field("build", "string", doc="digest of the engine's code and weights"),
        Field("version", "string"),
        Field("pixel_formats", "enum", "PixelFormat", repeated=True),
        Field("max_width", "uint32"),
        Field("max_height", "uint32"),
        Field("look_ahead_ms", "uint32", doc="audio the engine needs beyond the end of a frame"),
        Field("history_ms", "uint32", doc="audio before a frame that still shapes it"),
        Field("speaking_slots", "uint32", doc="turns that are spoken at once"),
        Field("max_sessions", "uint32", doc="conversations; 0: no bound"),
        Field("ready", "bool"),
        Field("draining", "bool"),
        Field("not_ready_reason", "string", doc="one sentence, empty where all of it is ready"),
        Field("limits", "message", Limits),
    ),
    Capacity: (
        Field("speaking_slots", "uint32"),
        Field("speaking_slots_free", "uint32"),
        Field("sessions", "uint32"),
        Field("max_sessions", "uint32"),
        Field("ready", "bool"),
        Field("draining", "bool"),
        Field("avatar_ids", "string", repeated=True, required=False, doc="prepared here, in memory or on disk"),
        Field("not_ready_reason", "string", required=False, doc="one sentence, empty where all of it is ready"),
    ),
    Open: (
        Field("avatar_id", "string"),
        Field("session_id", "string", required=False, doc="for logs"),
        Field("body_sha256", "bytes", required=False, doc="of the client's copy of the body, empty if it has none"),
        Field("scope", "enum", "FrameScope", required=False),
        Field("pixel_format", "enum", "PixelFormat", required=False),
        Field("width", "uint32", optional=True, required=False, doc="0 or nothing: as prepared. Else must be what was prepared."),
        Field("height", "uint32", optional=True, required=False),
        Field("fps", "FrameRate", optional=True, required=False),
        Field("follows_path", "bool", required=False, doc="The client follows frames whose loop_index leaves the loop inside a turn: by one of the avatar's jumps, or staying on a body frame that jumps lead to"),
    ),
    TurnStart: (
        Field("turn_id", "uint64", doc="new each time"),
        Field("epoch", "uint32"),
        Field("render_from_sample", "uint64", required=False, doc="Frames that begin before this sample are not rendered: the audio from there back is history (a turn resumed on another server)"),
    ),
    Audio: (
        Field("turn_id", "uint64"),
        Field("epoch", "uint32"),
        Field("first_sample", "uint64", doc="of the turn; contiguous with the message before it"),
        Field("pcm", "bytes", doc="s16le mono 16 kHz"),
    ),
    EndOfTurn: (
        Field("turn_id", "uint64"),
        Field("epoch", "uint32"),
    ),
    Anchor: (
        Field("turn_id", "uint64"),
        Field("epoch", "uint32"),
        Field("audio_sample", "uint64"),
        Field("loop_index", "uint32"),
    ),
    Playhead: (
        Field("turn_id", "uint64"),
        Field("epoch", "uint32"),
        Field("audio_sample", "int64", doc="negative: the turn starts in that many samples"),
        Field("playing", "bool", required=False),
    ),
    Interrupt: (
        Field("epoch", "uint32"),
    ),
    Avatar: (
        Field("avatar_id", "string", doc="what the engine prepared: body, engine build, settings"),
        Field("body_id", "string", doc="image bytes, size, fps, build of the loop maker"),
        Field("body_sha256", "bytes", doc="SHA-256 of all loop frames in I420, in order; ETag of the body"),
        Field("width", "uint32"),
        Field("height", "uint32"),
        Field("fps", "FrameRate", doc="frames per second as a fraction"),
        Field("loop_length", "uint32", doc="body frames"),
        Field("jumps", "LoopJump", repeated=True, required=False, doc="[from, to]: after body frame from, to may follow"),
        Field("segments", "LoopSegment", repeated=True, required=False, doc="[start, kind]: what the body does from there on"),
    ),
    Opened: (
        Field("avatar", "message", Avatar),
        Field("pixel_format", "enum", "PixelFormat"),
        Field("scope", "enum", "FrameScope", doc="WHOLE although RECTANGLE was asked for: the client's body differs (body_sha256)."),
        Field("largest_rect", "Rect", optional=True, required=False, doc="no rectangle of this avatar is outside it"),
        Field("look_ahead_ms", "uint32", doc="audio the engine needs beyond the end of a frame"),
        Field("history_ms", "uint32", doc="audio before a frame that still shapes it"),
        Field("window_ms", "uint32", doc="how far past the playhead frames are rendered"),
        Field("closing_frames", "uint32", doc="frames after the end of a turn that bring the mouth to rest"),
    ),
    TurnRejected: (
        Field("turn_id", "uint64"),
        Field("reason", "string"),
    ),
    TurnFinished: (
        Field("turn_id", "uint64"),
        Field("frames", "uint32"),
        Field("late", "uint32", doc="frames not rendered because the playhead had passed them"),
    ),
    Interrupted: (
        Field("epoch", "uint32"),
    ),
    GoAway: (
        Field("reason", "string"),
        Field("deadline_ms", "uint32", doc="what still runs then is cut"),
    ),
    Stats: (
        Field("queue_ms", "uint32", doc="wait before a row is submitted, rolling p95"),
        Field("render_ms", "uint32", doc="rolling p95"),
        Field("late", "uint32"),
    ),
    TurnAccepted: (
        Field("turn_id", "uint64"),
    ),
}
"""Of each message, in the order in which JSON shows them."""

REQUESTS: dict[str, type] = {
    "open": Open,
    "turn_start": TurnStart,
    "audio": Audio,
    "end_of_turn": EndOfTurn,
    "anchor": Anchor,
    "playhead": Playhead,
    "interrupt": Interrupt,
}
RESPONSES: dict[str, type] = {
    "opened": Opened,
    "turn_rejected": TurnRejected,
    "turn_finished": TurnFinished,
    "interrupted": Interrupted,
    "go_away": GoAway,
    "stats": Stats,
    "turn_accepted": TurnAccepted,
}

ENUMS: dict[str, dict[str, int]] = {
    "PixelFormat": {"i420": 1, "rgb24": 2},
    "FrameScope": {"rectangle": 1, "whole": 2},
    "Fit": {"crop": 1, "contain": 2},
    "FrameKind": {"mouth": 1, "body": 2},
}
"""Words and numbers; 0 is taken as the first."""
