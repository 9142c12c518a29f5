"""What the HTTP face says and hears in JSON: bodies of the routes, messages of the socket."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

U16 = Annotated[int, Field(ge=0, lt=1 << 16)]
U32 = Annotated[int, Field(ge=0, lt=1 << 32)]
U62 = Annotated[int, Field(ge=0, lt=1 << 62)]
I62 = Annotated[int, Field(gt=-(1 << 62), lt=1 << 62)]


class Problem(BaseModel):
    """Problem details (RFC 9457). ``kind`` is the contract's name of the error, the same on every face."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="one sentence: what is wrong and what to do")
    kind: str = Field(description="invalid_argument, not_found, resource_exhausted, unavailable, ...")


class AvatarOut(BaseModel):
    """A prepared avatar."""

    avatar_id: str = Field(description="what the engine prepared: body, engine build, settings")
    body_id: str = Field(description="image bytes, size, fps, build of the loop maker")
    body_sha256: str = Field(description="hex SHA-256 of all loop frames in I420, in order; ETag of the body")
    width: int
    height: int
    fps: str = Field(description="frames per second as a fraction", examples=["25", "30000/1001"])
    loop_length: int = Field(description="body frames")
    jumps: list[tuple[int, int]] = Field(description="[from, to]: after body frame from, to may follow")


class Limits(BaseModel):
    """What is taken here, and no more."""

    image_bytes: int
    image_pixels: int
    video_bytes: int
    video_ms: int = Field(description="the longest clip that is made an avatar")
    audio_bytes: int = Field(description="PCM of one audio message")
    turn_ms: int
    idle_ms: int = Field(description="a stream that sends nothing for this long is closed")
    window_ms: int = Field(description="how far past the playhead frames are rendered")
    connections: int = Field(description="HTTP connections and sockets open at once")


class CapabilitiesOut(BaseModel):
    """What this server is and can do."""

    engine: str
    build: str
    version: str
    pixel_formats: list[Literal["i420", "rgb24"]]
    max_width: int
    max_height: int
    look_ahead_ms: int = Field(description="audio the engine needs beyond the end of a frame")
    history_ms: int = Field(description="audio before a frame that still shapes it")
    speaking_slots: int
    max_sessions: int
    ready: bool
    draining: bool
    not_ready_reason: str
    limits: Limits


class CapacityOut(BaseModel):
    """Placement data."""

    speaking_slots: int
    speaking_slots_free: int
    sessions: int
    max_sessions: int
    ready: bool
    draining: bool
    avatar_ids: list[str]


class Started(BaseModel):
    """The answer to RoomKit's ``/start``."""

    fps: int


class Start(BaseModel):
    """What RoomKit's ``WebSocketAvatarProvider`` posts to ``/start``; ``fps`` is ours and optional."""

    reference_image: str = Field(min_length=1, description="base64 of a JPEG, PNG or WebP file")
    width: U16 = 512
    height: U16 = 512
    sample_rate: int = Field(16000, ge=4000, le=192_000)
    fps: int | None = Field(None, ge=1, le=60)


class _Message(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class Open(_Message):
    """The first message of a socket."""

    type: Literal["open"]
    avatar_id: str = Field(max_length=128)
    width: U16 = 0
    height: U16 = 0
    fps: str = Field("", max_length=32)
    pixel_format: Literal["i420", "rgb24"] = "i420"
    scope: Literal["rectangle", "whole"] = "rectangle"
    session_id: str = Field("", max_length=128)
    body_sha256: str = Field("", pattern="^([0-9a-fA-F]{64})?$")


class TurnStart(_Message):
    """A turn begins."""

    type: Literal["turn_start"]
    turn_id: U62
    epoch: U32
    render_from_sample: U62 = 0


class EndOfTurn(_Message):
    """No more audio of the turn."""

    type: Literal["end_of_turn"]
    turn_id: U62
    epoch: U32


class Anchor(_Message):
    """The body frame on screen when ``audio_sample`` is heard."""

    type: Literal["anchor"]
    turn_id: U62
    epoch: U32
    audio_sample: U62
    loop_index: U32


class Playhead(_Message):
    """What is heard now."""

    type: Literal["playhead"]
    turn_id: U62
    epoch: U32
    audio_sample: I62
    playing: bool = True


class Interrupt(_Message):
    """Everything of an older epoch is dead."""

    type: Literal["interrupt"]
    epoch: U32


Message = Open | TurnStart | EndOfTurn | Anchor | Playhead | Interrupt
MESSAGE: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="type")])
"""Parses one text message of the socket."""


def first_error(errors: list[Any]) -> str:
    """The first of pydantic's errors as ``field: what is wrong``."""
    first = errors[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query"))
    return f"{where or 'the message'}: {first['msg']}"
