"""SIP messages: requests, responses and their headers (RFC 3261 section 7).

Header order and unknown headers survive a round trip through `parsing`; bytes that are not UTF-8 do too, so that
what is echoed is what came. What leaves this package leaves as `PeerText`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.sip.message.grammar import (
    GrammarError,
    NameAddr,
    Uri,
    Via,
    list_values,
    parse_name_addr,
    parse_uri,
    parse_via,
)
from orchestrator.sip.message.text import PeerText

_COMPACT = {
    "a": "Accept-Contact", "b": "Referred-By", "c": "Content-Type", "d": "Request-Disposition",
    "e": "Content-Encoding", "f": "From", "i": "Call-ID", "j": "Reject-Contact", "k": "Supported",
    "l": "Content-Length", "m": "Contact", "o": "Event", "r": "Refer-To", "s": "Subject", "t": "To",
    "u": "Allow-Events", "v": "Via", "x": "Session-Expires",
}  # fmt: skip

REASONS = {
    100: "Trying", 180: "Ringing", 181: "Call Is Being Forwarded", 183: "Session Progress", 200: "OK",
    202: "Accepted", 300: "Multiple Choices", 301: "Moved Permanently", 302: "Moved Temporarily",
    400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    406: "Not Acceptable", 407: "Proxy Authentication Required", 408: "Request Timeout", 410: "Gone",
    413: "Request Entity Too Large", 415: "Unsupported Media Type", 416: "Unsupported URI Scheme",
    420: "Bad Extension", 421: "Extension Required", 422: "Session Interval Too Small",
    423: "Interval Too Brief", 480: "Temporarily Unavailable", 481: "Call/Transaction Does Not Exist",
    482: "Loop Detected", 483: "Too Many Hops", 484: "Address Incomplete", 486: "Busy Here",
    487: "Request Terminated", 488: "Not Acceptable Here", 489: "Bad Event", 491: "Request Pending",
    493: "Undecipherable", 500: "Server Internal Error", 501: "Not Implemented",
    503: "Service Unavailable", 504: "Server Time-out", 505: "Version Not Supported",
    513: "Message Too Large", 600: "Busy Everywhere", 603: "Decline", 606: "Not Acceptable",
}  # fmt: skip


class Headers:
    """Ordered headers, names compared without case, compact forms expanded."""

    __slots__ = ("_items",)

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._items: list[tuple[str, str, str]] = []
        for name, value in items:
            self.add(name, value)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return ((name, value) for _, name, value in self._items)

    def __contains__(self, name: str) -> bool:
        key = name.lower()
        return any(item[0] == key for item in self._items)

    def add(self, name: str, value: str) -> None:
        if "\r" in value or "\n" in value or "\n" in name or ":" in name:
            raise ValueError(f"line break in header {name!r}")
        name = _COMPACT.get(name.lower(), name) if len(name) == 1 else name
        self._items.append((name.lower(), name, value))

    def set(self, name: str, value: str) -> None:
        self.remove(name)
        self.add(name, value)

    def prepend(self, name: str, value: str) -> None:
        self.add(name, value)
        self._items.insert(0, self._items.pop())

    def remove(self, name: str) -> None:
        key = name.lower()
        self._items = [item for item in self._items if item[0] != key]

    def get(self, name: str) -> str | None:
        """The first value as written, or None."""
        key = name.lower()
        for item in self._items:
            if item[0] == key:
                return item[2]
        return None

    def all(self, name: str) -> list[str]:
        """Every line of that name as written."""
        key = name.lower()
        return [item[2] for item in self._items if item[0] == key]

    def values(self, name: str) -> list[str]:
        """Every value of a comma-separated header, in order; raises GrammarError."""
        return [value for line in self.all(name) for value in list_values(line)]

    def tokens(self, name: str) -> list[str]:
        """The values of a list of tokens such as Supported, lower-case, parameters dropped."""
        return [value.partition(";")[0].strip().lower() for value in self.values(name)]

    def copy(self) -> Headers:
        other = Headers()
        other._items = list(self._items)
        return other


@dataclass(slots=True)
class Message:
    """What requests and responses share. `body` is raw bytes."""

    headers: Headers = field(default_factory=Headers)
    body: bytes = b""

    @property
    def call_id(self) -> str:
        """As it came, for dialogs and traces."""
        return self.headers.get("Call-ID") or ""

    @property
    def cseq(self) -> tuple[int, str]:
        number, *method = (self.headers.get("CSeq") or "").replace("\t", " ").strip().split(" ", 1)
        if not (number.isascii() and number.isdigit() and len(number) < 12):
            raise GrammarError("bad CSeq")
        return int(number), "".join(method).strip()

    @property
    def from_(self) -> NameAddr:
        return parse_name_addr(self.headers.get("From") or "")

    @property
    def to(self) -> NameAddr:
        return parse_name_addr(self.headers.get("To") or "")

    @property
    def via(self) -> Via:
        """The topmost Via."""
        values = self.headers.values("Via")
        if not values:
            raise GrammarError("no Via")
        return parse_via(values[0])

    def contact(self) -> NameAddr | None:
        values = self.headers.values("Contact")
        return parse_name_addr(values[0]) if values and values[0] != "*" else None

    def text(self, name: str) -> PeerText:
        """The first value of a header for people and programs elsewhere; "" where there is none."""
        return PeerText(self.headers.get(name) or "")

    def content_type(self) -> str:
        return (self.headers.get("Content-Type") or "").partition(";")[0].strip().lower()

    def start_line(self) -> str:
        raise NotImplementedError

    def __bytes__(self) -> bytes:
        lines = [self.start_line()]
        lines += [f"{name}: {value}" for name, value in self.headers if name.lower() != "content-length"]
        lines.append(f"Content-Length: {len(self.body)}\r\n\r\n")
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


@dataclass(slots=True)
class Request(Message):
    """A SIP request; `uri` is the Request-URI as it came."""

    method: str = ""
    uri: str = ""

    def start_line(self) -> str:
        return f"{self.method} {self.uri} SIP/2.0"


@dataclass(slots=True)
class Response(Message):
    """A SIP response. `reason` is shown and handed on, never echoed: it is made fit for that."""

    status: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        self.reason = PeerText(self.reason)

    def start_line(self) -> str:
        return f"SIP/2.0 {self.status} {self.reason}"


def make_response(
    request: Request, status: int, reason: str | None = None, *, to_tag: str | None = None
) -> Response:
    """A response with the headers that section 8.2.6.2 copies; `to_tag` is added where To has none."""
    response = Response(status=status, reason=reason or REASONS.get(status, "Unknown"))
    for name, value in request.headers:
        if name.lower() in ("via", "from", "call-id", "cseq"):
            response.headers.add(name, value)
        elif name.lower() == "to":
            if to_tag and status > 100 and not has_tag(value):
                value = f"{value};tag={to_tag}"
            response.headers.add(name, value)
        elif name.lower() == "timestamp" and status == 100:
            response.headers.add(name, value)
    return response


def has_tag(value: str) -> bool:
    try:
        return parse_name_addr(value).tag is not None
    except GrammarError:
        return False


def parse_request_uri(text: str) -> Uri:
    """The Request-URI; escaped headers are not allowed there (RFC 4475 section 3.1.2.11)."""
    uri = parse_uri(text)
    if uri.headers:
        raise GrammarError("headers in the Request-URI")
    return uri
