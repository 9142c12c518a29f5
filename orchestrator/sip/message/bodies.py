"""Bodies that are not plain SDP: multipart, and what INFO carries (RFC 5168 keyframe requests, DTMF relay)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from orchestrator.sip.message.grammar import GrammarError, parse_params, split_outside_quotes
from orchestrator.sip.message.message import Message

SDP = "application/sdp"
MEDIA_CONTROL = "application/media_control+xml"
DTMF_RELAY = "application/dtmf-relay"
DTMF = "application/dtmf"
INFO_TYPES = (MEDIA_CONTROL, DTMF_RELAY, DTMF)
MAX_PARTS = 32
MAX_DEPTH = 4
"""Of multiparts in multiparts; what is nested deeper is not looked into."""
MAX_MULTIPART = 32_768
"""Octets of a multipart that are looked at."""
MAX_MEDIA_CONTROL = 4096
"""Octets of an INFO's document that are looked at; those that phones send have less than 300."""
_PART_TYPE = re.compile(rb"(?im)^(?:content-type|c)[ \t]*:([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)")
_PART_HEAD_END = re.compile(rb"\r?\n\r?\n")
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
    """The session description of a message, alone or in a multipart; None where there is none."""
    if not message.body:
        return None
    kind = message.content_type()
    if kind == SDP:
        return message.body
    if not kind.startswith("multipart/"):
        return None
    value = message.headers.get("Content-Type") or ""
    return next((body for part_type, body in _parts(value, message.body) if _essence(part_type) == SDP), None)


def _essence(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _parts(content_type: str, body: bytes, depth: int = 1) -> Iterator[tuple[str, bytes]]:
    """Content type and body of every part, in order, also those of a part that is a multipart (RFC 5621)."""
    try:
        boundary = parse_params(";".join(split_outside_quotes(content_type, ";")[1:])).get("boundary")
    except GrammarError:
        return
    if not boundary:
        return
    delimiter = re.compile(
        rb"(?:\A|\r?\n)--" + re.escape(boundary.encode("utf-8", "surrogateescape")) + rb"(?=--|[ \t]*\r?\n)"
    )
    for chunk in delimiter.split(body[:MAX_MULTIPART], MAX_PARTS + 1)[1 : MAX_PARTS + 1]:
        if chunk.startswith(b"--"):
            return
        head, part = _split_part(chunk)
        match = _PART_TYPE.search(head)
        part_type = b" ".join(match[1].split()).decode("utf-8", "surrogateescape") if match else "text/plain"
        if _essence(part_type).startswith("multipart/") and depth < MAX_DEPTH:
            yield from _parts(part_type, part, depth + 1)
        else:
            yield part_type, part


def _split_part(chunk: bytes) -> tuple[bytes, bytes]:
    """Headers and body of what follows a delimiter, whatever ends its lines; a part may be without headers."""
    chunk = chunk.lstrip(b" \t")
    match = _PART_HEAD_END.search(chunk)
    return (chunk[: match.start()], chunk[match.end() :]) if match else (chunk, b"")


def wants_keyframe(message: Message) -> bool:
    """Whether an INFO asks for a key frame (picture_fast_update, RFC 5168)."""
    start = message.body[:MAX_MEDIA_CONTROL]
    return message.content_type() == MEDIA_CONTROL and bool(_PICTURE_FAST_UPDATE.search(start))


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
