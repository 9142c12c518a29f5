"""Between the messages of ``WS /v1/converse`` and a stream. Sans-IO."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

from inference_server.avatars.store import StoredAvatar
from inference_server.core import Core
from inference_server.errors import RequestError, invalid
from inference_server.frontends import describe
from inference_server.frontends.http.problems import details
from inference_server.streams.responses import FrameReady, Response
from inference_server.streams.stream import Stream
from visavis.avatar.v1.contract import REQUESTS, Audio, Open
from visavis.client.http_wire import AUDIO, AUDIO_TYPE, BODY, FRAME, FRAME_TYPE, LAST, MOUTH
from visavis.contract import json_codec as codec

MOST_TEXT = 16_384
PACES = ("playhead", "none")
MOST_NAME = 128
_TEXT_REQUESTS = {name: kind for name, kind in REQUESTS.items() if kind is not Audio}


def avatar(stored: StoredAvatar) -> dict[str, Any]:
    """Ids, size and loop."""
    return codec.encode(describe.avatar(stored))


def capabilities(core: Core) -> dict[str, Any]:
    """What the contract says of this server, and what concerns HTTP alone."""
    told = codec.encode(describe.capabilities(core))
    told["limits"]["connections"] = core.settings.http_connections
    return told


def capacity(core: Core) -> dict[str, Any]:
    """Placement data now."""
    return codec.encode(core.capacity())


def fraction(text: str) -> Fraction:
    """``25``, ``29.97`` or ``30000/1001``. Raises ``invalid_argument``."""
    try:
        return codec.frame_rate(text)
    except ValueError as error:
        raise invalid(f"fps: {error}.") from None


def parse(text: str) -> Any:
    """One text message. Raises ``invalid_argument``."""
    if len(text) > MOST_TEXT:
        raise invalid(f"A text message of {len(text)} characters is too long: {MOST_TEXT} are taken.")
    try:
        name, told = codec.parse_message(text)
        if name not in _TEXT_REQUESTS:
            raise ValueError(f"type: it must be one of {', '.join(_TEXT_REQUESTS)}")
        return codec.decode(_TEXT_REQUESTS[name], told)
    except ValueError as error:
        raise invalid(f"This text message is none of the protocol: {error}.") from None


def open_request(data: str | bytes) -> Open:
    """The first message of a socket. Raises ``invalid_argument``."""
    if isinstance(data, bytes):
        raise invalid("A binary message came before open: send the JSON message open first.")
    message = parse(data)
    if not isinstance(message, Open):
        raise invalid(f"{codec.NAMES[type(message)]} came before open: send open first.")
    if max(len(message.avatar_id), len(message.session_id)) > MOST_NAME:
        raise invalid(f"open: avatar_id and session_id may have {MOST_NAME} characters.")
    if len(message.body_sha256) not in (0, 32):
        raise invalid("open: body_sha256 must be 64 hex digits, or nothing.")
    return message


def has_playhead(data: str) -> bool:
    """Whether the client of this ``open`` tells what it plays. Raises ``invalid_argument``."""
    pace = codec.parse_message(data)[1].get("pace", PACES[0])
    if pace not in PACES:
        raise invalid(f"open: pace must be one of {', '.join(PACES)}.")
    return bool(pace == PACES[0])


def apply(stream: Stream, data: str | bytes) -> None:
    """A message after open. Raises :class:`RequestError` where the client made a mistake."""
    if isinstance(data, str):
        stream.take(parse(data))
        return
    if len(data) < AUDIO.size or data[0] != AUDIO_TYPE:
        raise invalid(
            f"A binary message of {len(data)} bytes is no audio: {AUDIO.size} bytes of header beginning with"
            f" {AUDIO_TYPE}, then s16le PCM."
        )
    _, _, _, epoch, turn_id, first_sample = AUDIO.unpack_from(data)
    if max(turn_id, first_sample) >= 1 << 62:
        raise invalid("Audio: turn_id and first_sample must be below 2**62.")
    stream.take(Audio(turn_id, epoch, first_sample, data[AUDIO.size :]))


def opened(core: Core, stream: Stream) -> str:
    """The answer to open."""
    return codec.encode_message(describe.opened(core, stream))


def response(stream: Stream, said: Response) -> str | bytes:
    """A response as it travels."""
    if not isinstance(said, FrameReady):
        return codec.encode_message(said)
    area, pixels = stream.pictures.pixels(said)
    kind, flags = MOUTH if said.kind == "mouth" else BODY, LAST if said.last else 0
    about = (FRAME_TYPE, kind, flags, said.epoch, said.turn_id, said.sample, said.loop_index)
    return FRAME.pack(*about, *(area or (0, 0, 0, 0)), 0) + (pixels or b"")


def error(refused: RequestError) -> str:
    """The last message of a socket that an error ends."""
    about = details(refused).model_dump()
    del about["type"]
    return json.dumps({"type": "error", **about})


def reason(sentence: str) -> str:
    """What fits into a close frame: at most 123 bytes (RFC 6455, section 5.5)."""
    return sentence.encode()[:123].decode(errors="ignore")
