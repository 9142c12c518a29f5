"""What the API takes and gives; FastAPI makes the OpenAPI document of it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import BaseModel, Field

from orchestrator.calls.call import Call
from orchestrator.calls.portraits import DEFAULT, Portrait
from orchestrator.calls.records import CallRecord
from orchestrator.calls.turns import TurnRecord
from orchestrator.rtp.dtmf import LONGEST_MS, SHORTEST_MS

CallId = Annotated[str, Path(description="id of the call, as in GET /v1/calls")]


class Problem(BaseModel):
    """An error, RFC 9457."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(description="one sentence: what is wrong and what to do")


class NotShown(BaseModel):
    """Stands for a call or record that cannot be shown."""

    call_id: str
    not_shown: str = Field(description="one sentence: why not")


class TurnView(BaseModel):
    """One thing the avatar says in a call."""

    turn_id: int
    kind: Literal["say", "play"]
    state: Literal["queued", "speaking", "finished", "interrupted", "failed"]
    heard_ms: float = Field(description="milliseconds of it that were sent to the caller")
    reason: str = Field("", description="why it failed, in one sentence")

    @classmethod
    def of(cls, turn: TurnRecord) -> TurnView:
        """The view of a record."""
        return cls(
            turn_id=turn.turn_id,
            kind=turn.kind,
            state=turn.state,
            heard_ms=round(turn.heard_ms, 1),
            reason=turn.reason,
        )


class CallView(BaseModel):
    """One call."""

    call_id: str
    direction: Literal["in", "out"]
    caller: str = Field(description="the other end's address")
    dialled: str
    avatar: str
    source: str = Field(description="the address it came from")
    audio: str = Field(description="negotiated audio, like PCMU/8000")
    video: str | None = Field(description="negotiated video, like H264 512x512@25; null for a voice call")
    account: str = Field(description="the account it came or went over; empty: none")
    answered_at: float
    ended_at: float | None
    cause: str = Field(description="how it ended: bye, api, rtp timeout, worker...")
    turns: list[TurnView] = Field(
        description="the turns queued and spoken, and the last 100 that are over; the oldest first"
    )
    media: dict[str, Any] = Field(description="figures of the call's media, as last reported")

    @classmethod
    def of(cls, call: Call) -> CallView:
        """The view of an answered call."""
        assert call.answered_at is not None
        signalling = call.signalling
        return cls(
            call_id=call.call_id,
            direction=signalling.direction,
            caller=signalling.caller,
            dialled=signalling.dialled,
            avatar=call.portrait.name,
            source=signalling.source,
            audio=call.audio,
            video=call.video,
            account=signalling.account,
            answered_at=call.answered_at,
            ended_at=call.ended_at,
            cause=call.cause,
            turns=[TurnView.of(turn) for turn in call.turns],
            media=call.stats,
        )


class RecordView(BaseModel):
    """One call that has ended."""

    call_id: str
    sip_call_id: str = Field(description="the Call-ID header of its SIP messages")
    direction: Literal["in", "out"]
    caller: str = Field(description="the other end's address")
    dialled: str
    source: str = Field(description="the other end's network address")
    account: str = Field(description="the account it came or went over; empty: none")
    avatar: str
    started_at: float
    answered_at: float | None = Field(description="null: it was never answered")
    ended_at: float
    seconds: float = Field(description="from answer to end")
    cause: str = Field(
        description="how it ended: bye by peer, api, rtp timeout, busy, no_answer, cancelled, no_room..."
    )
    ended_by: str = Field(description="peer or us")
    sip_cause: str
    sip_status: int = Field(description="the SIP status that ended it; 0 for a BYE")
    reason: str = Field(description="the other end's words, where it had any")
    audio: str | None
    video: str | None
    srtp: bool
    media: dict[str, Any] = Field(
        description="figures of each stream; peer_* is what the other end's RTCP reports said of what it got"
    )

    @classmethod
    def of(cls, record: CallRecord) -> RecordView:
        """The view of a record."""
        return cls(**record.as_dict())


class TraceRequest(BaseModel):
    """Trace coming calls."""

    calls: int = Field(ge=0, le=1000, description="how many, from the next on; 0: none any more")


class DialRequest(BaseModel):
    """Call somebody."""

    to: str = Field(
        min_length=1, max_length=500, description="sip:anna@example.com, or a number at the account"
    )
    avatar: str = Field("default", description="name of the avatar to show")
    say: str = Field("", max_length=20_000, description="spoken when the call is answered")
    language: str | None = Field(
        None, max_length=100, description="of `say`, like SayRequest's; null: the configured language"
    )
    video: bool = Field(True, description="offer video")
    account: str = Field("", description="uri of the account to call over; empty: the first, or none")
    assistant: str | None = Field(
        None, max_length=100, description="who talks with whoever answers; null: as is configured"
    )


class Dialled(BaseModel):
    """A call that is being placed; events and GET /v1/calls tell what becomes of it."""

    call_id: str


class SayRequest(BaseModel):
    """Speak a text."""

    text: str = Field(min_length=1, max_length=20_000)
    language: str | None = Field(
        None,
        max_length=100,
        description="en, de, pt-BR, cmn...; a region without a voice of its own gets its language's; "
        "null: the configured language",
    )
    mode: Literal["queue", "replace"] = Field(
        "queue", description="after what is being said, or instead of it"
    )
    wait: bool = Field(False, description="answer when it has been spoken")


class KeysRequest(BaseModel):
    """Press keys: in RTP (RFC 4733) where the phone agreed to that, else by SIP INFO."""

    digits: str = Field(
        pattern=r"^[0-9*#A-Da-d]{1,64}$", description="0 to 9, *, #, A to D; one after the other"
    )
    milliseconds: int = Field(100, ge=SHORTEST_MS, le=LONGEST_MS, description="how long each is held")


class ShowRequest(BaseModel):
    """Whether the caller is shown the avatar; the phone is offered that anew."""

    shown: bool


class AvatarRequest(BaseModel):
    """Another face."""

    avatar: str = Field(max_length=100, description="the name of a portrait, as in GET /v1/avatars")


class StateRequest(BaseModel):
    """What the face does while nothing is said."""

    state: Literal["idle", "listening", "thinking", "speaking"] | None = Field(
        description="null: the caller's voice tells; a conversation that the service holds sets it by itself"
    )


class TransferRequest(BaseModel):
    """Send the caller to somebody else (blind transfer, REFER)."""

    to: str = Field(min_length=1, max_length=500, description="sip:anna@example.com")


class TransferView(BaseModel):
    """What became of it: below 300 the caller was answered there, and this call is hung up."""

    status: int = Field(description="the SIP status that the phone reports; 408: none within a minute")


class AvatarView(BaseModel):
    """A portrait that calls can use."""

    name: str
    media_type: str
    bytes: int
    default: bool
    built_in: bool = Field(
        description="ships with Visavis: cannot be erased, only hidden by an upload of its name"
    )

    @classmethod
    def of(cls, portrait: Portrait) -> AvatarView:
        """The view of a portrait."""
        return cls(
            name=portrait.name,
            media_type=portrait.media_type,
            bytes=portrait.path.stat().st_size,
            default=portrait.name == DEFAULT,
            built_in=portrait.built_in,
        )


class WebView(BaseModel):
    """What a browser needs to call."""

    path: str = Field(description="of the WebSocket that speaks SIP (RFC 7118)")
    ice_servers: list[dict[str, Any]] = Field(description="as RTCPeerConnection takes them")


class Readiness(BaseModel):
    """Whether it can take a call; lips are no part of it."""

    ready: bool
    missing: list[str] = Field(description="one sentence for each thing that is missing")
