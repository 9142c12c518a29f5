"""The parser of whole messages.

What cannot be accepted is raised as `MalformedMessage`, which carries as much of the request as could be read,
so that a 400 can be sent where that is possible.
"""

from __future__ import annotations

import re

from orchestrator.sip.message.grammar import GrammarError, is_token, parse_via
from orchestrator.sip.message.message import Headers, Message, Request, Response

MAX_DATAGRAM = 8192
MAX_FRAME = 65_536
"""Octets of a message that a WebSocket brings (RFC 7118)."""
MAX_HEAD = 16_384
MAX_HEADERS = 128
MAX_COMMAS = 256  # in a line
MAX_VALUES = {"Via": 70, "Route": 32, "Record-Route": 32, "Contact": 32}
"""Via: as many as there may be hops (section 20.22); RFC 4475 has a good message with 34 of them."""
MAX_CSEQ = 2**31 - 1
_SINGLE = ("From", "To", "Call-ID", "CSeq", "Max-Forwards", "Content-Length", "Content-Type")
_REQUIRED = ("From", "To", "Call-ID", "CSeq")
_FOLD = re.compile(r"\r?\n[ \t]+")


class MalformedMessage(ValueError):
    """A message that cannot be accepted. `request` is what could be read of it, `status` the answer it wants.

    `request` is None where no answer is possible: responses, ACK, and requests without a usable Via.
    """

    def __init__(self, reason: str, *, status: int = 400, request: Request | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.request = request


def _split(data: bytes) -> tuple[str, list[str], bytes]:
    head, separator, body = data.partition(b"\r\n\r\n")
    if not separator:
        head, separator, body = data.partition(b"\n\n")
    if len(head) > MAX_HEAD:
        raise MalformedMessage(f"a head of more than {MAX_HEAD} bytes")
    text = head.decode("utf-8", "surrogateescape")
    start, _, rest = text.partition("\n")
    lines = [line.rstrip("\r") for line in _FOLD.sub(" ", rest).split("\n")]
    return start.rstrip("\r"), [line for line in lines if line], body


def parse_message(data: bytes, *, stream: bool = False, most: int = MAX_DATAGRAM) -> Request | Response:
    """One message from one datagram or frame, or one cut from a stream by its framing.

    Raises MalformedMessage. A datagram's bytes after Content-Length are dropped (section 18.3); one of more than
    `most` bytes is not read at all.
    """
    if len(data) > most and not stream:
        raise MalformedMessage(f"a message of more than {most} bytes")
    start, lines, body = _split(data.lstrip(b"\r\n"))
    if start.startswith("SIP/"):
        return _parse_response(start, lines, body)
    parts = start.split(" ")
    request = Request(method=parts[0], uri=parts[1] if len(parts) > 1 else "")
    try:
        _read_headers(request, lines)
        _check_via(request)
    except (GrammarError, ValueError) as error:
        raise MalformedMessage(f"unusable headers: {error}") from error
    answerable = request if request.method != "ACK" else None
    if len(parts) != 3 or not is_token(parts[0]) or not parts[1]:
        raise MalformedMessage("bad request line", request=answerable)
    if parts[2].upper() != "SIP/2.0":
        wrong_version = re.match(r"SIP/\d+\.\d+\Z", parts[2], re.I)
        raise MalformedMessage("bad version", status=505 if wrong_version else 400, request=answerable)
    try:
        _check_headers(request)
        request.body = _cut_body(request.headers, body, stream=stream)
        number, method = request.cseq
        if method != request.method:
            raise GrammarError("CSeq method differs from the request's")
        if number > MAX_CSEQ:
            raise GrammarError("CSeq out of range")
    except (GrammarError, ValueError) as error:
        raise MalformedMessage(str(error), request=answerable) from error
    return request


def _parse_response(start: str, lines: list[str], body: bytes) -> Response:
    match = re.match(r"SIP/2\.0 ([1-6]\d\d)(?: (.*))?\Z", start, re.I | re.S)
    if match is None:
        raise MalformedMessage("bad status line")
    response = Response(status=int(match[1]), reason=match[2] or "")
    try:
        _read_headers(response, lines)
        _check_via(response)
        _check_headers(response)
        response.body = _cut_body(response.headers, body, stream=False)
        if response.cseq[0] > MAX_CSEQ:
            raise GrammarError("CSeq out of range")
    except (GrammarError, ValueError) as error:
        raise MalformedMessage(str(error)) from error
    return response


def _read_headers(message: Message, lines: list[str]) -> None:
    if len(lines) > MAX_HEADERS:
        raise GrammarError("too many headers")
    for line in lines:
        name, colon, value = line.partition(":")
        name = name.rstrip()
        if not colon or not is_token(name):
            raise GrammarError("a header line without a name")
        if value.count(",") > MAX_COMMAS:
            raise GrammarError("too many values in a line")
        message.headers.add(name, value.strip().replace("\r", " "))


def _check_via(message: Message) -> None:
    _ = message.via


def _check_headers(message: Message) -> None:
    for name in _REQUIRED:
        if not message.headers.get(name):
            raise GrammarError(f"missing {name}")
    for name in _SINGLE:
        if len(message.headers.all(name)) > 1:
            raise GrammarError(f"more than one {name}")
    _, _ = message.from_, message.to
    for name, most in MAX_VALUES.items():
        if len(message.headers.values(name)) > most:
            raise GrammarError(f"more than {most} values of {name}")
    for value in message.headers.values("Via"):
        parse_via(value)
    hops = message.headers.get("Max-Forwards")
    if hops is not None and not (hops.isascii() and hops.isdigit() and len(hops) < 6 and int(hops) < 256):
        raise GrammarError("bad Max-Forwards")


def _cut_body(headers: Headers, body: bytes, *, stream: bool) -> bytes:
    declared = headers.get("Content-Length")
    if declared is None:
        if stream and "Content-Type" in headers:
            raise GrammarError("a body without Content-Length on a stream")
        return b"" if stream else body
    if not (declared.isascii() and declared.isdigit() and len(declared) < 9):
        raise GrammarError("bad Content-Length")
    length = int(declared)
    if length > len(body):
        raise GrammarError("Content-Length larger than the body")
    return body[:length]
