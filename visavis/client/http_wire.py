"""The bytes of ``WS /v1/converse``, as docs/http.md lays them out, and this library's values for them.

Text messages are JSON objects with a ``type``; binary messages begin with a fixed little-endian header: audio
(client to server) and frames (server to client).
"""

from __future__ import annotations

import struct
from typing import Any

from visavis import errors
from visavis.avatar.v1.contract import RESPONSES
from visavis.client import messages, model
from visavis.client.checks import checked_avatar, checked_frame, checked_opened
from visavis.contract import json_codec as codec
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
    "unauthenticated": errors.AccessDenied,
    "permission_denied": errors.AccessDenied,
}


def error_of(kind: str, detail: str, address: str) -> errors.VisavisError:
    """The library's error for a kind of the server's (``unavailable``, ``not_found``...) and its sentence."""
    error = _ERRORS.get(kind, errors.ServerUnavailable)
    if error is errors.ServerUnavailable:
        detail = f"the avatar server at {address} cannot be used now ({detail.rstrip('.') or kind})"
    elif error is errors.AccessDenied:
        detail = f"the avatar server at {address} refuses this client ({detail.rstrip('.') or kind})"
    return error(detail or f"the avatar server at {address} answered {kind}")


def request_to(request: messages.Open | messages.Request) -> str | bytes:
    """A message as it travels."""
    if isinstance(request, messages.Audio):
        return (
            AUDIO.pack(AUDIO_TYPE, 0, 0, request.epoch, request.turn_id, request.first_sample) + request.pcm
        )
    return codec.encode_message(request)


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
        name, told = codec.parse_message(data)
        if name == "error":
            raise error_of(str(told.get("kind")), str(told.get("detail", "")), address)
        if name == "opened":
            return opened_from(told)
        return codec.decode(RESPONSES[name], told) if name in RESPONSES else None
    except ValueError as e:
        raise errors.ProtocolError(
            f"the avatar server at {address} sent a message that the contract does not allow ({e})"
        ) from None


def opened_from(told: Any) -> model.Opened:
    """Raises ``ValueError`` on nonsense, and :class:`ProtocolError` where sizes make no sense."""
    return checked_opened(codec.decode(model.Opened, told))


def avatar_from(told: Any) -> model.Avatar:
    """An avatar as the routes tell it. Raises ``ValueError`` and :class:`ProtocolError` likewise."""
    return checked_avatar(codec.decode(model.Avatar, told))


def capabilities_from(told: Any) -> model.Capabilities:
    """What a server is and can do. Raises ``ValueError`` on nonsense."""
    return codec.decode(model.Capabilities, told)


def capacity_from(told: Any) -> model.Capacity:
    """Placement data. Raises ``ValueError`` on nonsense."""
    return codec.decode(model.Capacity, told)
