"""Between the contract's messages and the server's own values."""

from __future__ import annotations

from fractions import Fraction
from importlib.metadata import version

from inference_server.avatars.preparation import PrepareRequest
from inference_server.avatars.store import StoredAvatar
from inference_server.core import Capacity, Core
from inference_server.errors import invalid
from inference_server.streams.opening import OpenRequest
from inference_server.streams.pictures import PixelFormat, Scope
from inference_server.streams.responses import (
    FrameReady,
    GoAway,
    Interrupted,
    Response,
    Stats,
    TurnAccepted,
    TurnFinished,
    TurnRejected,
)
from inference_server.streams.stream import Stream
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.frames import SAMPLE_RATE, Rect

DEFAULT_SIZE = 512
DEFAULT_FPS = Fraction(25)
FORMATS: dict[int, PixelFormat] = {
    pb.PIXEL_FORMAT_UNSPECIFIED: "i420",
    pb.PIXEL_FORMAT_I420: "i420",
    pb.PIXEL_FORMAT_RGB24: "rgb24",
}
_SCOPES: dict[int, Scope] = {
    pb.FRAME_SCOPE_UNSPECIFIED: "rectangle",
    pb.FRAME_SCOPE_RECTANGLE: "rectangle",
    pb.FRAME_SCOPE_WHOLE: "whole",
}
_FITS = {pb.FIT_UNSPECIFIED: "crop", pb.FIT_CROP: "crop", pb.FIT_CONTAIN: "contain"}
_KINDS = {"mouth": pb.FRAME_KIND_MOUTH, "body": pb.FRAME_KIND_BODY}


def frame_rate(rate: pb.FrameRate) -> Fraction | None:
    """``None`` where nothing is said."""
    if not rate.num and not rate.den:
        return None
    if not rate.num:
        raise invalid("fps must not be 0: try 25/1.")
    return Fraction(rate.num, rate.den or 1)


def prepare_request(request: pb.PrepareAvatarRequest) -> PrepareRequest:
    """With defaults filled in."""
    video = request.WhichOneof("source") == "video"
    fit = _FITS.get(request.fit)
    if fit is None:
        raise invalid(f"fit {request.fit} is unknown: take FIT_CROP or FIT_CONTAIN.")
    return PrepareRequest(
        request.video if video else request.image,
        request.width or DEFAULT_SIZE,
        request.height or DEFAULT_SIZE,
        frame_rate(request.fps) or DEFAULT_FPS,
        fit,
        dict(request.settings),
        video,
    )


def open_request(request: pb.Open) -> OpenRequest:
    """As the core takes it."""
    pixel_format, scope = FORMATS.get(request.pixel_format), _SCOPES.get(request.scope)
    if pixel_format is None:
        raise invalid(f"Open: pixel_format {request.pixel_format} is unknown: take I420 or RGB24.")
    if scope is None:
        raise invalid(f"Open: scope {request.scope} is unknown: take RECTANGLE or WHOLE.")
    return OpenRequest(
        request.avatar_id,
        request.width,
        request.height,
        frame_rate(request.fps),
        pixel_format,
        scope,
        request.session_id,
        request.body_sha256,
    )


def avatar(stored: StoredAvatar) -> pb.Avatar:
    """Ids, size and loop."""
    body = stored.body
    return pb.Avatar(
        avatar_id=stored.avatar_id,
        body_id=body.body_id,
        body_sha256=body.sha256,
        width=body.width,
        height=body.height,
        fps=pb.FrameRate(num=body.fps.numerator, den=body.fps.denominator),
        loop_length=len(body),
        jumps=[pb.LoopJump(**{"from": a, "to": b}) for a, b in body.jumps],
    )


def rect(area: Rect) -> pb.Rect:
    """Four numbers."""
    return pb.Rect(x=area.x, y=area.y, width=area.width, height=area.height)


def capabilities(core: Core) -> pb.Capabilities:
    """What this server is and can do now."""
    s, loaded = core.settings, core.engine.loaded
    info = loaded.info if loaded else {}
    return pb.Capabilities(
        engine=info.get("name", s.engine),
        build=info.get("build", ""),
        version=version("visavis"),
        pixel_formats=[pb.PIXEL_FORMAT_I420, pb.PIXEL_FORMAT_RGB24],
        max_width=min(s.max_width, info.get("max_width", s.max_width)),
        max_height=min(s.max_height, info.get("max_height", s.max_height)),
        look_ahead_ms=_ms(info.get("look_ahead", 0)),
        history_ms=_ms(info.get("history", 0)),
        speaking_slots=core.slots.total,
        max_sessions=s.max_sessions,
        ready=core.ready,
        draining=core.draining,
        not_ready_reason=core.not_ready_reason,
        limits=pb.Limits(
            image_bytes=s.image_bytes,
            image_pixels=s.image_pixels,
            video_bytes=s.video_bytes,
            video_ms=round(s.video_s * 1000),
            audio_bytes=s.audio_bytes,
            turn_ms=s.turn_ms,
            idle_ms=s.idle_ms,
            window_ms=s.window_ms,
        ),
    )


def capacity(now: Capacity) -> pb.Capacity:
    """Placement data."""
    return pb.Capacity(
        speaking_slots=now.slots,
        speaking_slots_free=now.slots_free,
        sessions=now.sessions,
        max_sessions=now.max_sessions,
        ready=now.ready,
        draining=now.draining,
        avatar_ids=now.avatar_ids,
    )


def opened(core: Core, stream: Stream) -> pb.ConverseResponse:
    """The answer to Open."""
    info = core.engine.loaded.info if core.engine.loaded else {}
    pictures = stream.pictures
    return pb.ConverseResponse(
        opened=pb.Opened(
            avatar=avatar(stream.avatar),
            pixel_format=pb.PIXEL_FORMAT_RGB24 if pictures.format == "rgb24" else pb.PIXEL_FORMAT_I420,
            scope=pb.FRAME_SCOPE_WHOLE if pictures.scope == "whole" else pb.FRAME_SCOPE_RECTANGLE,
            largest_rect=rect(stream.resident.largest),
            look_ahead_ms=_ms(info.get("look_ahead", 0)),
            history_ms=_ms(info.get("history", 0)),
            window_ms=core.settings.window_ms,
            closing_frames=stream.session.parameters.closing_frames,
        )
    )


def apply(stream: Stream, request: pb.ConverseRequest) -> None:
    """A request after Open. Raises :class:`RequestError` where the client made a mistake."""
    match request.WhichOneof("message"):
        case "audio":
            audio = request.audio
            stream.audio(audio.turn_id, audio.epoch, audio.first_sample, audio.pcm)
        case "playhead":
            head = request.playhead
            stream.playhead(head.turn_id, head.epoch, head.audio_sample, head.playing)
        case "turn_start":
            start = request.turn_start
            stream.turn_start(start.turn_id, start.epoch, start.render_from_sample)
        case "anchor":
            anchor = request.anchor
            stream.anchor(anchor.turn_id, anchor.epoch, anchor.audio_sample, anchor.loop_index)
        case "end_of_turn":
            stream.end_of_turn(request.end_of_turn.turn_id, request.end_of_turn.epoch)
        case "interrupt":
            stream.interrupt(request.interrupt.epoch)
        case "open":
            raise invalid("Open: this stream is open already: open another stream for another conversation.")
        case _:
            raise invalid(
                "A request names no message this server knows: client and server differ in version."
            )


def response(stream: Stream, said: Response) -> pb.ConverseResponse:
    """A response as it travels."""
    match said:
        case FrameReady():
            area, pixels = stream.pictures.pixels(said)
            frame = pb.Frame(
                turn_id=said.turn_id,
                epoch=said.epoch,
                audio_sample=said.sample,
                loop_index=said.loop_index,
                kind=_KINDS[said.kind],
                last=said.last,
            )
            if area is not None and pixels is not None:
                frame.rect.CopyFrom(rect(area))
                frame.pixels = pixels
            return pb.ConverseResponse(frame=frame)
        case TurnAccepted():
            return pb.ConverseResponse(turn_accepted=pb.TurnAccepted(turn_id=said.turn_id))
        case TurnRejected():
            return pb.ConverseResponse(
                turn_rejected=pb.TurnRejected(turn_id=said.turn_id, reason=said.reason)
            )
        case TurnFinished():
            return pb.ConverseResponse(
                turn_finished=pb.TurnFinished(turn_id=said.turn_id, frames=said.frames, late=said.late)
            )
        case Interrupted():
            return pb.ConverseResponse(interrupted=pb.Interrupted(epoch=said.epoch))
        case GoAway():
            return pb.ConverseResponse(go_away=pb.GoAway(reason=said.reason, deadline_ms=said.deadline_ms))
        case Stats():
            return pb.ConverseResponse(
                stats=pb.Stats(queue_ms=said.queue_ms, render_ms=said.render_ms, late=said.late)
            )


def _ms(samples: int) -> int:
    return -(-samples * 1000 // SAMPLE_RATE)
