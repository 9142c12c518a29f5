"""Bodies that are not plain SDP: multipart, and what INFO carries (RFC 5168 keyframe requests, DTMF relay)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestrator.sip.message.grammar import GrammarError, parse_params, split_outside_quotes
from orchestrator.sip.message.message import Message

SDP = "application/sdp"
MEDIA_CONTROL = "application/media_control+xml"
DTMF_RELAY = "application/dtmf-relay"
DTMF = "application/dtmf"
INFO_TYPES = (MEDIA_CONTROL, DTMF_RELAY, DTMF)
_DIGITS = {"10": "*", "11": "#", "12": "A", "13": "B", "14": "C", "15": "D", "16": "!"}
_PICTURE_FAST_UPDATE = re.compile(rb"<\s*(?:\w+:)?picture_fast_update\b")


@dataclass(frozen=True, slots=True)
class Dtmf:
    """One key from an INFO: 0-9 * # A-D or ! (flash); milliseconds."""

    digit: str
    duration: int = 160


def is_optional(message: Message) -> bool:
    """Content-Disposition with handling=optional: an unknown body may be ignored (RFC 3261 section 20.11)."""
    value = message.headers.get("Content-Disposition")
    if value is None:
        return False
    try:
        return (parse_params(value.partition(";")[2]).get("handling") or "").lower() == "optional"
    except GrammarError:
        return False


def sdp_body(message: Message) -> bytes | None:
    """The session description of a message, alone or inside multipart/mixed; None where there is none."""
    if not message.body:
        return None
    kind = message.content_type()
    if kind == SDP:
        return message.body
    if not kind.startswith("multipart/"):
        return None
    for part_type, body in _parts(message):
        if part_type == SDP:
            return body
    return None


def _parts(message: Message) -> list[tuple[str, bytes]]:
    value = message.headers.get("Content-Type") or ""
    try:
        boundary = parse_params(";".join(split_outside_quotes(value, ";")[1:])).get("boundary")
    except GrammarError:
        return []
    if not boundary:
        return []
    delimiter = b"\r\n--" + boundary.encode("utf-8", "surrogateescape")
    parts = []
    for chunk in (b"\r\n" + message.body).split(delimiter)[1:33]:
        if chunk.startswith(b"--"):
            break
        head, _, body = chunk.lstrip(b" \t").removeprefix(b"\r\n").partition(b"\r\n\r\n")
        match = re.search(rb"(?im)^(?:content-type|c)[ \t]*:[ \t]*([^;\s]+)", head)
        parts.append((match[1].decode("latin-1").lower() if match else "text/plain", body))
    return parts


def wants_keyframe(message: Message) -> bool:
    """Whether an INFO asks for a key frame (picture_fast_update, RFC 5168)."""
    return message.content_type() == MEDIA_CONTROL and bool(_PICTURE_FAST_UPDATE.search(message.body))


def read_dtmf(message: Message) -> Dtmf | None:
    """The key an INFO relays; None for a body that names none."""
    text = message.body[:256].decode("latin-1")
    if message.content_type() == DTMF:
        return _dtmf(text.strip(), 160)
    signal = re.search(r"(?im)^\s*signal\s*=\s*(\S+)", text)
    duration = re.search(r"(?im)^\s*duration\s*=\s*(\d{1,5})", text)
    return _dtmf(signal[1], int(duration[1]) if duration else 160) if signal else None


def relay_dtmf(digit: str, milliseconds: int) -> bytes:
    """The body of an INFO that relays a key."""
    return f"Signal={digit}\r\nDuration={milliseconds}\r\n".encode()


def _dtmf(text: str, duration: int) -> Dtmf | None:
    digit = _DIGITS.get(text, text).upper()
    return Dtmf(digit, duration) if len(digit) == 1 and digit in "0123456789*#ABCD!" else None
