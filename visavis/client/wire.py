"""Between the contract's protobuf messages and this library's plain values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from visavis import errors
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.contract import ENUMS, RESPONSES
from visavis.client import messages, model
from visavis.client.checks import checked_avatar, checked_frame, checked_opened
from visavis.contract import protobuf_codec as codec
from visavis.frames import Frame, Rect

T = TypeVar("T")
PIECE = 256 << 10
"""Of a file on its way to a server, in bytes."""

_BY_STATUS: dict[grpc.StatusCode, type[errors.VisavisError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.ServerUnavailable,
    grpc.StatusCode.UNAUTHENTICATED: errors.AccessDenied,
    grpc.StatusCode.PERMISSION_DENIED: errors.AccessDenied,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ServerFull,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.ServerStalled,
    grpc.StatusCode.NOT_FOUND: errors.AvatarUnknown,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.FAILED_PRECONDITION: errors.InvalidRequest,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidRequest,
    grpc.StatusCode.DATA_LOSS: errors.BodyCorrupt,
}


def error_from(status: grpc.aio.AioRpcError, address: str) -> errors.VisavisError:
    """The library's error for a gRPC status."""
    code, details = status.code(), (status.details() or "").strip()
    kind = _BY_STATUS.get(code, errors.ServerUnavailable)
    if kind is errors.ServerUnavailable and not details.startswith("the "):
        details = f"the avatar server at {address} cannot be used now ({details or code.name.lower()})"
    elif kind is errors.AccessDenied:
        details = (
            f"the avatar server at {address} refuses this client ({details.rstrip('.') or code.name.lower()})"
        )
    elif kind is errors.ServerStalled:
        details = f"the avatar server at {address} did not answer in time"
    return kind(details or f"the avatar server at {address} answered {code.name}")


def avatar_from(avatar: pb.Avatar) -> model.Avatar:
    """Raises :class:`ProtocolError` where sizes make no sense."""
    return checked_avatar(_decoded(model.Avatar, avatar))


def capabilities_from(told: pb.Capabilities) -> model.Capabilities:
    """What a server is and can do; pixel formats that this version does not know are left out."""
    return _decoded(model.Capabilities, told)


def capacity_from(told: pb.Capacity) -> model.Capacity:
    """Placement data."""
    return _decoded(model.Capacity, told)


def prepare_to(source: model.AvatarSource, size: int | None = None) -> pb.PrepareAvatarRequest:
    """The request that prepares an avatar, with so many bytes of its file, or all."""
    fps = pb.FrameRate(num=source.fps.numerator, den=source.fps.denominator)
    return pb.PrepareAvatarRequest(
        width=source.width,
        height=source.height,
        fps=fps,
        fit=pb.Fit.ValueType(ENUMS["Fit"][source.fit]),
        settings=dict(source.settings),
        **_file(source, 0, size),
    )


def pieces_of(source: model.AvatarSource) -> Iterator[pb.PrepareAvatarRequest]:
    """The requests that do so piece by piece."""
    yield prepare_to(source, PIECE)
    for at in range(PIECE, len(source.image), PIECE):
        yield pb.PrepareAvatarRequest(**_file(source, at, PIECE))


def _file(source: model.AvatarSource, at: int, size: int | None) -> dict[str, Any]:
    data = source.image[at:] if size is None else source.image[at : at + size]
    return {"video" if source.video else "image": data}


def opened_from(told: pb.Opened) -> model.Opened:
    """Raises :class:`ProtocolError` where sizes make no sense."""
    return checked_opened(_decoded(model.Opened, told))


def request_to(request: messages.Open | messages.Request) -> pb.ConverseRequest:
    """The contract's message for one of ours."""
    return codec.encode_request(request)


def frame_from(f: pb.Frame, opened: model.Opened) -> Frame:
    """Raises :class:`ProtocolError` where pixels and rectangle do not fit the picture."""
    rect, pixels = None, f.pixels or None
    if pixels is not None:
        r = f.rect if f.HasField("rect") else None
        size = (0, 0, opened.avatar.width, opened.avatar.height)
        rect = Rect(r.x, r.y, r.width, r.height) if r is not None else Rect(*size)
    return checked_frame(
        Frame(
            turn_id=f.turn_id,
            epoch=f.epoch,
            sample=f.audio_sample,
            loop_index=f.loop_index,
            kind="body" if f.kind == pb.FRAME_KIND_BODY else "mouth",
            rect=rect,
            pixels=pixels,
            last=f.last,
        ),
        opened,
    )


def response_from(r: pb.ConverseResponse, opened: model.Opened) -> messages.ServerMessage | None:
    """Ours for a server's message; ``None`` for one that this version does not know."""
    name = r.WhichOneof("message")
    if name == "frame":
        return frame_from(r.frame, opened)
    if name is None or name == "opened":
        return None
    return _decoded(RESPONSES[name], getattr(r, name))


def _decoded(kind: type[T], message: Message) -> T:
    try:
        return codec.decode(kind, message)
    except ValueError as error:
        raise errors.ProtocolError(f"the server sent what the contract does not allow: {error}") from None
