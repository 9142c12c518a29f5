"""Between the contract's protobuf messages and this library's plain values."""

from __future__ import annotations

from fractions import Fraction

import grpc

from visavis import errors
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client import messages, model
from visavis.client.checks import checked_avatar, checked_frame
from visavis.frames import Frame, Rect

_FORMATS: dict[int, model.PixelFormat] = {
    pb.PIXEL_FORMAT_UNSPECIFIED: "i420",
    pb.PIXEL_FORMAT_I420: "i420",
    pb.PIXEL_FORMAT_RGB24: "rgb24",
}
_TO_FORMAT = {"i420": pb.PIXEL_FORMAT_I420, "rgb24": pb.PIXEL_FORMAT_RGB24}
_TO_SCOPE = {"rectangle": pb.FRAME_SCOPE_RECTANGLE, "whole": pb.FRAME_SCOPE_WHOLE}
_TO_FIT = {"crop": pb.FIT_CROP, "contain": pb.FIT_CONTAIN}

_BY_STATUS: dict[grpc.StatusCode, type[errors.VisavisError]] = {
    grpc.StatusCode.UNAVAILABLE: errors.ServerUnavailable,
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
    elif kind is errors.ServerStalled:
        details = f"the avatar server at {address} did not answer in time"
    return kind(details or f"the avatar server at {address} answered {code.name}")


def fps_to(fps: Fraction) -> pb.FrameRate:
    """The contract's frame rate."""
    return pb.FrameRate(num=fps.numerator, den=fps.denominator)


def rect_from(rect: pb.Rect) -> Rect:
    """A rectangle, not checked."""
    return Rect(rect.x, rect.y, rect.width, rect.height)


def avatar_from(avatar: pb.Avatar) -> model.Avatar:
    """Raises :class:`ProtocolError` where sizes make no sense."""
    jumps = ((int(getattr(j, "from")), j.to) for j in avatar.jumps)  # `from` is a keyword
    return checked_avatar(
        model.Avatar(
            avatar_id=avatar.avatar_id,
            body_id=avatar.body_id,
            body_sha256=avatar.body_sha256,
            width=avatar.width,
            height=avatar.height,
            fps=Fraction(avatar.fps.num, avatar.fps.den or 1),
            loop_length=avatar.loop_length,
            jumps=tuple(jumps),
        )
    )


def capabilities_from(c: pb.Capabilities) -> model.Capabilities:
    """What a server is and can do; pixel formats that this version does not know are left out."""
    return model.Capabilities(
        engine=c.engine,
        build=c.build,
        version=c.version,
        pixel_formats=tuple(_FORMATS[f] for f in c.pixel_formats if f in _FORMATS),
        max_width=c.max_width,
        max_height=c.max_height,
        look_ahead_ms=c.look_ahead_ms,
        history_ms=c.history_ms,
        speaking_slots=c.speaking_slots,
        max_sessions=c.max_sessions,
        ready=c.ready,
        draining=c.draining,
        not_ready_reason=c.not_ready_reason,
        audio_bytes=c.limits.audio_bytes,
        turn_ms=c.limits.turn_ms,
        window_ms=c.limits.window_ms,
    )


def capacity_from(c: pb.Capacity) -> model.Capacity:
    """Placement data."""
    return model.Capacity(
        speaking_slots=c.speaking_slots,
        speaking_slots_free=c.speaking_slots_free,
        sessions=c.sessions,
        max_sessions=c.max_sessions,
        ready=c.ready,
        draining=c.draining,
        avatar_ids=frozenset(c.avatar_ids),
    )


def prepare_to(source: model.AvatarSource) -> pb.PrepareAvatarRequest:
    """The request that prepares an avatar."""
    request = pb.PrepareAvatarRequest(
        width=source.width,
        height=source.height,
        fps=fps_to(source.fps),
        fit=_TO_FIT[source.fit],
        settings=dict(source.settings),
    )
    if source.video:
        request.video = source.image
    else:
        request.image = source.image
    return request


def opened_from(o: pb.Opened) -> model.Opened:
    """Raises :class:`ProtocolError` where sizes make no sense."""
    return model.Opened(
        avatar=avatar_from(o.avatar),
        pixel_format=_FORMATS.get(o.pixel_format, "i420"),
        scope="whole" if o.scope == pb.FRAME_SCOPE_WHOLE else "rectangle",
        largest_rect=rect_from(o.largest_rect) if o.HasField("largest_rect") else None,
        look_ahead_ms=o.look_ahead_ms,
        history_ms=o.history_ms,
        window_ms=o.window_ms or 400,
        closing_frames=o.closing_frames,
    )


def open_to(o: messages.Open) -> pb.ConverseRequest:
    """The first message."""
    return pb.ConverseRequest(
        open=pb.Open(
            avatar_id=o.avatar_id,
            pixel_format=_TO_FORMAT[o.pixel_format],
            scope=_TO_SCOPE[o.scope],
            session_id=o.session_id,
            body_sha256=o.body_sha256,
        )
    )


def request_to(m: messages.Request) -> pb.ConverseRequest:
    """The contract's message for one of ours."""
    match m:
        case messages.Playhead(turn, epoch, sample, playing):
            head = pb.Playhead(turn_id=turn, epoch=epoch, audio_sample=sample, playing=playing)
            return pb.ConverseRequest(playhead=head)
        case messages.Audio(turn, epoch, first, pcm):
            return pb.ConverseRequest(audio=pb.Audio(turn_id=turn, epoch=epoch, first_sample=first, pcm=pcm))
        case messages.Anchor(turn, epoch, sample, index):
            anchor = pb.Anchor(turn_id=turn, epoch=epoch, audio_sample=sample, loop_index=index)
            return pb.ConverseRequest(anchor=anchor)
        case messages.TurnStart(turn, epoch, render_from):
            start = pb.TurnStart(turn_id=turn, epoch=epoch, render_from_sample=render_from)
            return pb.ConverseRequest(turn_start=start)
        case messages.EndOfTurn(turn, epoch):
            return pb.ConverseRequest(end_of_turn=pb.EndOfTurn(turn_id=turn, epoch=epoch))
        case messages.Interrupt(epoch):
            return pb.ConverseRequest(interrupt=pb.Interrupt(epoch=epoch))


def frame_from(f: pb.Frame, opened: model.Opened) -> Frame:
    """Raises :class:`ProtocolError` where pixels and rectangle do not fit the picture."""
    rect = rect_from(f.rect) if f.HasField("rect") else Rect(0, 0, opened.avatar.width, opened.avatar.height)
    return checked_frame(
        Frame(
            turn_id=f.turn_id,
            epoch=f.epoch,
            sample=f.audio_sample,
            loop_index=f.loop_index,
            kind="body" if f.kind == pb.FRAME_KIND_BODY else "mouth",
            rect=rect if f.pixels else None,
            pixels=f.pixels or None,
            last=f.last,
        ),
        opened,
    )


def response_from(r: pb.ConverseResponse, opened: model.Opened) -> messages.ServerMessage | None:
    """Ours for a server's message; ``None`` for one that this version does not know."""
    match r.WhichOneof("message"):
        case "frame":
            return frame_from(r.frame, opened)
        case "turn_accepted":
            return messages.TurnAccepted(r.turn_accepted.turn_id)
        case "turn_rejected":
            return messages.TurnRejected(r.turn_rejected.turn_id, r.turn_rejected.reason)
        case "turn_finished":
            done = r.turn_finished
            return messages.TurnFinished(done.turn_id, done.frames, done.late)
        case "interrupted":
            return messages.Interrupted(r.interrupted.epoch)
        case "go_away":
            return messages.GoAway(r.go_away.reason, r.go_away.deadline_ms)
        case "stats":
            return messages.Stats(r.stats.queue_ms, r.stats.render_ms, r.stats.late)
        case _:
            return None
