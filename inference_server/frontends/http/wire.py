"""Between the messages of ``WS /v1/converse`` and a stream. Sans-IO."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from google.protobuf.message import Message
from pydantic import ValidationError

from inference_server.avatars.store import StoredAvatar
from inference_server.core import Core
from inference_server.errors import RequestError, invalid
from inference_server.frontends import convert
from inference_server.frontends.http import schemas as s
from inference_server.frontends.http.problems import details
from inference_server.streams.opening import OpenRequest
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
from visavis.client.http_wire import AUDIO, AUDIO_TYPE, BODY, FRAME, FRAME_TYPE, LAST, MOUTH

MOST_TEXT = 16_384


def avatar_out(stored: StoredAvatar) -> s.AvatarOut:
    """Ids, size and loop."""
    body = stored.body
    return s.AvatarOut(
        avatar_id=stored.avatar_id,
        body_id=body.body_id,
        body_sha256=body.sha256.hex(),
        width=body.width,
        height=body.height,
        fps=str(body.fps),
        loop_length=len(body),
        jumps=[(int(a), int(b)) for a, b in body.jumps],
    )


def capabilities(core: Core) -> s.CapabilitiesOut:
    """What the contract says of this server, and what concerns HTTP alone."""
    told = convert.capabilities(core)
    fields = _fields(told) | {
        "pixel_formats": [convert.FORMATS[f] for f in told.pixel_formats],
        "limits": s.Limits(**_fields(told.limits), connections=core.settings.http_connections),
    }
    return s.CapabilitiesOut(**fields)


def capacity(core: Core) -> s.CapacityOut:
    """Placement data now."""
    now = core.capacity()
    return s.CapacityOut(
        speaking_slots=now.slots,
        speaking_slots_free=now.slots_free,
        sessions=now.sessions,
        max_sessions=now.max_sessions,
        ready=now.ready,
        draining=now.draining,
        avatar_ids=list(now.avatar_ids),
    )


def fraction(text: str) -> Fraction:
    """``25``, ``29.97`` or ``30000/1001``. Raises ``invalid_argument``."""
    try:
        return Fraction(text)
    except (ValueError, ZeroDivisionError):
        raise invalid(f"fps cannot be {text[:32]!r}: write 25 or 30000/1001.") from None


def parse(text: str) -> s.Message:
    """One text message. Raises ``invalid_argument``."""
    if len(text) > MOST_TEXT:
        raise invalid(f"A text message of {len(text)} characters is too long: {MOST_TEXT} are taken.")
    try:
        return s.MESSAGE.validate_json(text)
    except ValidationError as error:
        raise invalid(
            f"This text message is none of the protocol: {s.first_error(error.errors())}."
        ) from None


def open_request(data: str | bytes) -> OpenRequest:
    """The first message of a socket. Raises ``invalid_argument``."""
    if isinstance(data, bytes):
        raise invalid("A binary message came before open: send the JSON message open first.")
    message = parse(data)
    if not isinstance(message, s.Open):
        raise invalid(f"{message.type} came before open: send open first.")
    return OpenRequest(
        message.avatar_id,
        message.width,
        message.height,
        fraction(message.fps) if message.fps else None,
        message.pixel_format,
        message.scope,
        message.session_id,
        bytes.fromhex(message.body_sha256),
    )


def apply(stream: Stream, data: str | bytes) -> None:
    """A message after open. Raises :class:`RequestError` where the client made a mistake."""
    if isinstance(data, bytes):
        if len(data) < AUDIO.size or data[0] != AUDIO_TYPE:
            raise invalid(
                f"A binary message of {len(data)} bytes is no audio: {AUDIO.size} bytes of header beginning with"
                f" {AUDIO_TYPE}, then s16le PCM."
            )
        _, _, _, epoch, turn_id, first_sample = AUDIO.unpack_from(data)
        if max(turn_id, first_sample) >= 1 << 62:
            raise invalid("Audio: turn_id and first_sample must be below 2**62.")
        stream.audio(turn_id, epoch, first_sample, data[AUDIO.size :])
        return
    match parse(data):
        case s.Playhead() as m:
            stream.playhead(m.turn_id, m.epoch, m.audio_sample, m.playing)
        case s.TurnStart() as m:
            stream.turn_start(m.turn_id, m.epoch, m.render_from_sample)
        case s.Anchor() as m:
            stream.anchor(m.turn_id, m.epoch, m.audio_sample, m.loop_index)
        case s.EndOfTurn() as m:
            stream.end_of_turn(m.turn_id, m.epoch)
        case s.Interrupt() as m:
            stream.interrupt(m.epoch)
        case s.Open():
            raise invalid("open: this socket is open already: open another one for another conversation.")


def opened(core: Core, stream: Stream) -> str:
    """The answer to open."""
    told = convert.opened(core, stream).opened
    return _json(
        "opened",
        avatar=avatar_out(stream.avatar).model_dump(),
        pixel_format=stream.pictures.format,
        scope=stream.pictures.scope,
        largest_rect=list(stream.resident.largest),
        look_ahead_ms=told.look_ahead_ms,
        history_ms=told.history_ms,
        window_ms=told.window_ms,
        closing_frames=told.closing_frames,
    )


def response(stream: Stream, said: Response) -> str | bytes:
    """A response as it travels."""
    match said:
        case FrameReady():
            area, pixels = stream.pictures.pixels(said)
            kind, flags = MOUTH if said.kind == "mouth" else BODY, LAST if said.last else 0
            about = (FRAME_TYPE, kind, flags, said.epoch, said.turn_id, said.sample, said.loop_index)
            return FRAME.pack(*about, *(area or (0, 0, 0, 0)), 0) + (pixels or b"")
        case TurnAccepted():
            return _json("turn_accepted", turn_id=said.turn_id)
        case TurnRejected():
            return _json("turn_rejected", turn_id=said.turn_id, reason=said.reason)
        case TurnFinished():
            return _json("turn_finished", turn_id=said.turn_id, frames=said.frames, late=said.late)
        case Interrupted():
            return _json("interrupted", epoch=said.epoch)
        case GoAway():
            return _json("go_away", reason=said.reason, deadline_ms=said.deadline_ms)
        case Stats():
            return _json("stats", queue_ms=said.queue_ms, render_ms=said.render_ms, late=said.late)


def error(refused: RequestError) -> str:
    """The last message of a socket that an error ends."""
    about = details(refused).model_dump()
    del about["type"]
    return _json("error", **about)


def reason(sentence: str) -> str:
    """What fits into a close frame: at most 123 bytes (RFC 6455, section 5.5)."""
    return sentence.encode()[:123].decode(errors="ignore")


def _fields(message: Message) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


def _json(name: str, /, **fields: Any) -> str:
    return json.dumps({"type": name, **fields})
