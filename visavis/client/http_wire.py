"""The bytes of ``WS /v1/converse``, as docs/http.md lays them out, and this library's values for them.

Text messages are JSON objects with a ``type``; binary messages begin with a fixed little-endian header: audio
(client to server) and frames (server to client).
"""

from __future__ import annotations

import json
import struct
from fractions import Fraction
from typing import Any

from visavis import errors
from visavis.client import messages, model
from visavis.client.checks import checked_avatar, checked_frame
from visavis.frames import Frame, Rect

AUDIO = struct.Struct("<BBHIQQ")
"""Message type 1, two reserved fields, epoch, turn id, first sample; then s16le PCM, 16 kHz mono."""
FRAME = struct.Struct("<BBHIQQIHHHHI")
"""Message type 2, kind, flags, epoch, turn id, sample, loop index, x, y, width, height, reserved; then pixels."""
AUDIO_TYPE = 1
FRAME_TYPE = 2
MOUTH = 1
BODY = 2
LAST = 1
"""Flag of the last frame of a turn."""

CLOSE_CODES: dict[str, int] = {
    "invalid_argument": 4400,
    "not_found": 4404,
    "deadline_exceeded": 4408,
    "failed_precondition": 4409,
    "resource_exhausted": 4429,
    "internal": 4500,
    "unimplemented": 4501,
    "unavailable": 4503,
}
"""How a socket is closed for each kind of error."""
KIND_OF_CODE = {code: kind for kind, code in CLOSE_CODES.items()}

_ERRORS: dict[str, type[errors.VisavisError]] = {
    "invalid_argument": errors.InvalidRequest,
    "failed_precondition": errors.InvalidRequest,
    "not_found": errors.AvatarUnknown,
    "deadline_exceeded": errors.ServerStalled,
    "resource_exhausted": errors.ServerFull,
}


def error_of(kind: str, detail: str, address: str) -> errors.VisavisError:
    """The library's error for a kind of the server's (``unavailable``, ``not_found``...) and its sentence."""
    error = _ERRORS.get(kind, errors.ServerUnavailable)
    if error is errors.ServerUnavailable:
        detail = f"the avatar server at {address} cannot be used now ({detail.rstrip('.') or kind})"
    return error(detail or f"the avatar server at {address} answered {kind}")


def open_to(request: messages.Open) -> str:
    """The first message."""
    return _json(
        "open",
        avatar_id=request.avatar_id,
        session_id=request.session_id,
        body_sha256=request.body_sha256.hex(),
        scope=request.scope,
        pixel_format=request.pixel_format,
    )


def request_to(request: messages.Request) -> str | bytes:
    """Every later message."""
    match request:
        case messages.Playhead(turn, epoch, sample, playing):
            return _json("playhead", turn_id=turn, epoch=epoch, audio_sample=sample, playing=playing)
        case messages.Audio(turn, epoch, first, pcm):
            return AUDIO.pack(AUDIO_TYPE, 0, 0, epoch, turn, first) + pcm
        case messages.Anchor(turn, epoch, sample, index):
            return _json("anchor", turn_id=turn, epoch=epoch, audio_sample=sample, loop_index=index)
        case messages.TurnStart(turn, epoch, render_from):
            return _json("turn_start", turn_id=turn, epoch=epoch, render_from_sample=render_from)
        case messages.EndOfTurn(turn, epoch):
            return _json("end_of_turn", turn_id=turn, epoch=epoch)
        case messages.Interrupt(epoch):
            return _json("interrupt", epoch=epoch)


def frame_from(data: bytes, opened: model.Opened) -> Frame:
    """Raises :class:`ProtocolError` where header, pixels and rectangle do not fit the picture."""
    if len(data) < FRAME.size:
        raise errors.ProtocolError(f"a frame of {len(data)} bytes is shorter than its header")
    (_, kind, flags, epoch, turn, sample, index, x, y, width, height, _) = FRAME.unpack_from(data)
    there = bool(width or height or len(data) > FRAME.size)
    return checked_frame(
        Frame(
            turn_id=turn,
            epoch=epoch,
            sample=sample,
            loop_index=index,
            kind="body" if kind == BODY else "mouth",
            rect=Rect(x, y, width, height) if there else None,
            pixels=data[FRAME.size :] if there else None,
            last=bool(flags & LAST),
        ),
        opened,
    )


def response_from(
    data: str | bytes, opened: model.Opened | None, address: str
) -> messages.ServerMessage | model.Opened | None:
    """Ours for a server's message; ``None`` for one that this version does not know.

    Raises :class:`ProtocolError` on nonsense, and the error that an ``error`` message tells.
    """
    if isinstance(data, bytes):
        if data[:1] != bytes((FRAME_TYPE,)):
            return None
        if opened is None:
            raise errors.ProtocolError(f"the avatar server at {address} sent a frame before opened")
        return frame_from(data, opened)
    try:
        m = json.loads(data)
        match m["type"]:
            case "turn_accepted":
                return messages.TurnAccepted(int(m["turn_id"]))
            case "turn_rejected":
                return messages.TurnRejected(int(m["turn_id"]), str(m["reason"]))
            case "turn_finished":
                return messages.TurnFinished(int(m["turn_id"]), int(m["frames"]), int(m["late"]))
            case "interrupted":
                return messages.Interrupted(int(m["epoch"]))
            case "go_away":
                return messages.GoAway(str(m["reason"]), int(m["deadline_ms"]))
            case "stats":
                return messages.Stats(int(m["queue_ms"]), int(m["render_ms"]), int(m["late"]))
            case "opened":
                return opened_from(m)
            case "error":
                raise error_of(str(m.get("kind")), str(m.get("detail", "")), address)
            case _:
                return None
    except (ValueError, KeyError, TypeError, ZeroDivisionError) as e:
        raise errors.ProtocolError(
            f"the avatar server at {address} sent a message that the contract does not allow ({e!r})"
        ) from None


def opened_from(m: dict[str, Any]) -> model.Opened:
    """Raises ``ValueError``, ``KeyError`` or ``TypeError`` on nonsense, as does :func:`avatar_from`."""
    largest = m.get("largest_rect")
    return model.Opened(
        avatar=avatar_from(m["avatar"]),
        pixel_format="rgb24" if m["pixel_format"] == "rgb24" else "i420",
        scope="whole" if m["scope"] == "whole" else "rectangle",
        largest_rect=Rect(*(int(v) for v in largest)) if largest else None,
        look_ahead_ms=int(m["look_ahead_ms"]),
        history_ms=int(m["history_ms"]),
        window_ms=int(m["window_ms"]),
        closing_frames=int(m["closing_frames"]),
    )


def avatar_from(m: dict[str, Any]) -> model.Avatar:
    """An avatar as the routes and ``opened`` tell it."""
    return checked_avatar(
        model.Avatar(
            avatar_id=str(m["avatar_id"]),
            body_id=str(m["body_id"]),
            body_sha256=bytes.fromhex(m["body_sha256"]),
            width=int(m["width"]),
            height=int(m["height"]),
            fps=Fraction(m["fps"]),
            loop_length=int(m["loop_length"]),
            jumps=tuple((int(a), int(b)) for a, b in m.get("jumps", ())),
        )
    )


def capacity_from(m: dict[str, Any]) -> model.Capacity:
    """Placement data."""
    return model.Capacity(
        speaking_slots=int(m["speaking_slots"]),
        speaking_slots_free=int(m["speaking_slots_free"]),
        sessions=int(m["sessions"]),
        max_sessions=int(m["max_sessions"]),
        ready=bool(m["ready"]),
        draining=bool(m["draining"]),
        avatar_ids=frozenset(str(a) for a in m["avatar_ids"]),
    )


def _json(name: str, /, **fields: Any) -> str:
    return json.dumps({"type": name, **fields})
