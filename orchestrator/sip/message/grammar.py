"""The small grammars of RFC 3261 section 25 that headers share: URIs, name-addr, Via, parameters.

Strict where RFC 4475 wants a request refused, lenient about white space where it must be understood, and about
display names without the quotes that their characters need, unless these are separators.
Every parser raises `GrammarError` and nothing else, whatever it is given.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import unquote

Params = Mapping[str, str | None]

MAX_PARAMS = 64
"""Of a value or a URI; phones send about ten."""
REMEMBERED = 128
"""Values whose parsing is remembered, since each is asked for several times while its message is handled."""

_TOKEN = re.compile(r"[A-Za-z0-9\-.!%*_+`'~]+\Z")
_DISPLAY = re.compile(r"[^\"<>,;\\\x00-\x08\x0a-\x1f\x7f]*\Z")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+\-.]*\Z")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9_](?:[A-Za-z0-9_.\-]{0,253}[A-Za-z0-9_.])?)\Z")
_USER = re.compile(r"[A-Za-z0-9\-_.!~*'()%&=+$,;?/:#\x80-\U0010ffff]+\Z")
_BAD_URI = re.compile(r"[\s<>\"\x00-\x1f\x7f]")
_VIA = re.compile(r"\s*([^\s/;,]+)\s*/\s*([^\s/;,]+)\s*/\s*([^\s/;,]+)\s+([^;]*)(;.*)?\Z", re.S)
_QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_PARTS = {  # no quantifier gives anything back, so that the time is that of one pass
    separator: re.compile(rf'(?:[^"<{separator}]++|{_QUOTED}|<(?:[^">]++|{_QUOTED})*+(?:>|\Z))*+', re.S)
    for separator in ",;"
}


class GrammarError(ValueError):
    """A header value that RFC 3261's grammar does not allow."""


def is_token(text: str) -> bool:
    return _TOKEN.match(text) is not None


def split_outside_quotes(text: str, separator: str) -> list[str]:
    """Split at `separator` outside quoted strings and angle brackets; raises on an unbalanced quote."""
    if '"' not in text and "<" not in text:
        return text.split(separator)
    parts: list[str] = []
    at = 0
    while (found := _PARTS[separator].match(text, at)) is not None:
        parts.append(found[0])
        if found.end() == len(text):
            return parts
        if text[found.end()] != separator:
            break
        at = found.end() + 1
    raise GrammarError("unterminated quoted string")


def _bounded(params: list[str]) -> list[str]:
    if len(params) > MAX_PARAMS:
        raise GrammarError("too many parameters")
    return params


@functools.lru_cache(REMEMBERED)
def list_values(text: str) -> tuple[str, ...]:
    """The values of a header line that is a list, without those that are empty."""
    return tuple(value for part in split_outside_quotes(text, ",") if (value := part.strip()))


@functools.lru_cache(REMEMBERED)
def parse_params(text: str, *, keep_quotes: bool = False) -> Params:
    """`;name=value;name` as a dict with lower-case names; quoted values lose their quotes, unless to be echoed."""
    params: dict[str, str | None] = {}
    for part in _bounded(split_outside_quotes(text, ";")):
        name, equals, value = part.partition("=")
        name = name.strip().lower()
        if not name:
            if equals:
                raise GrammarError("a parameter without a name")
            continue
        value = value.strip()
        if equals and value.startswith('"'):
            bare = unquote_string(value)
            value = value if keep_quotes else bare
        params[name] = value if equals else None
    return params


def unquote_string(text: str) -> str:
    if len(text) < 2 or text[0] != '"' or text[-1] != '"':
        raise GrammarError("unterminated quoted string")
    inner = text[1:-1]
    if "\\" not in inner:
        return inner
    return "\\".join(part.replace("\\", "") for part in inner.split("\\\\"))


def quote_string(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", re.sub(r"[\r\n\0]", " ", text)) + '"'


def _params_text(params: Iterable[tuple[str, str | None]]) -> str:
    out = []
    for name, value in params:
        if value is None:
            out.append(f";{name}")
        elif is_token(value) or _HOST.match(value):
            out.append(f";{name}={value}")
        else:
            out.append(f";{name}={quote_string(value)}")
    return "".join(out)


@dataclass(frozen=True, slots=True)
class Uri:
    """A SIP or SIPS URI, or any other scheme with its text in `opaque` (RFC 3261 section 19.1)."""

    scheme: str
    user: str | None = None
    host: str = ""
    port: int | None = None
    params: Params = field(default_factory=dict)
    headers: str = ""
    opaque: str = ""

    @property
    def is_sip(self) -> bool:
        return self.scheme in ("sip", "sips")

    @property
    def decoded_user(self) -> str:
        """The user part, or the number of a tel URI, with its escapes resolved; empty where there is none."""
        user = self.opaque if self.scheme == "tel" else (self.user or "").partition(":")[0]
        return unquote(user, errors="replace")

    @property
    def transport(self) -> str | None:
        value = self.params.get("transport")
        return value.upper() if value else None

    @property
    def bare_host(self) -> str:
        """The host without the brackets of an IPv6 literal."""
        return self.host[1:-1] if self.host.startswith("[") else self.host

    def without_headers(self) -> Uri:
        return replace(self, headers="")

    def __str__(self) -> str:
        if not self.is_sip:
            return f"{self.scheme}:{self.opaque}"
        user = f"{self.user}@" if self.user is not None else ""
        port = f":{self.port}" if self.port is not None else ""
        params = "".join(f";{k}" if v is None else f";{k}={v}" for k, v in self.params.items())
        headers = f"?{self.headers}" if self.headers else ""
        return f"{self.scheme}:{user}{self.host}{port}{params}{headers}"


def _host_port(text: str) -> tuple[str, int | None]:
    host, port_text = text, ""
    if text.startswith("["):
        end = text.find("]")
        host, rest = text[: end + 1], text[end + 1 :].strip()
        if rest:
            if not rest.startswith(":"):
                raise GrammarError("bad host")
            port_text = rest[1:].strip()
    elif ":" in text:
        host, _, port_text = text.partition(":")
        host, port_text = host.rstrip(), port_text.strip()
    if not _HOST.match(host):
        raise GrammarError("bad host")
    if not port_text:
        return host, None
    if not (port_text.isascii() and port_text.isdigit() and len(port_text) <= 5):
        raise GrammarError("bad port")
    port = int(port_text)
    if not 0 < port < 65536:
        raise GrammarError("bad port")
    return host, port


def parse_uri(text: str) -> Uri:
    """A URI without angle brackets or white space; the user part keeps its escapes."""
    if _BAD_URI.search(text):
        raise GrammarError("white space or quotes in a URI")
    scheme, colon, rest = text.partition(":")
    if not colon or not _SCHEME.match(scheme) or not rest:
        raise GrammarError("not a URI")
    scheme = scheme.lower()
    if scheme not in ("sip", "sips"):
        return Uri(scheme, opaque=rest)
    user: str | None = None
    at = rest.rfind("@")
    if at >= 0:
        user, rest = rest[:at], rest[at + 1 :]
        if not _USER.match(user):
            raise GrammarError("bad user part")
    rest, _, headers = rest.partition("?")
    hostport, _, params_text = rest.partition(";")
    host, port = _host_port(hostport)
    params: dict[str, str | None] = {}
    for part in _bounded(params_text.split(";")) if params_text else ():
        name, equals, value = part.partition("=")
        if name:
            params[unquote(name, errors="replace").lower()] = value if equals else None
    return Uri(scheme, user, host, port, params, headers)


@dataclass(frozen=True, slots=True)
class NameAddr:
    """From, To, Contact, Route, Refer-To: a display name, a URI and header parameters."""

    uri: Uri
    display: str = ""
    params: Params = field(default_factory=dict)

    @property
    def tag(self) -> str | None:
        return self.params.get("tag")

    def __str__(self) -> str:
        name = f"{quote_string(self.display)} " if self.display else ""
        return f"{name}<{self.uri}>{_params_text(self.params.items())}"


@functools.lru_cache(REMEMBERED)
def parse_name_addr(text: str) -> NameAddr:
    """name-addr or addr-spec; in the latter parameters belong to the header (section 20.10)."""
    text = text.strip()
    display = ""
    if text.startswith('"'):
        match = re.match(_QUOTED, text, re.S)
        if match is None:
            raise GrammarError("unterminated quoted string")
        display, text = unquote_string(match.group()), text[match.end() :].lstrip()
        if not text.startswith("<"):
            raise GrammarError("a display name without <URI>")
    if "<" in text:
        before, _, rest = text.partition("<")
        if not display:
            display = before.strip()
            if not _DISPLAY.match(display):
                raise GrammarError("a display name that needs quotes")
        elif before.strip():
            raise GrammarError("text after a display name")
        uri_text, close, tail = rest.partition(">")
        if not close:
            raise GrammarError("missing >")
        tail = tail.strip()
        if tail and not tail.startswith(";"):
            raise GrammarError("text after <URI>")
        return NameAddr(parse_uri(uri_text), display, parse_params(tail[1:]))
    uri_text, _, tail = text.partition(";")
    uri = parse_uri(uri_text.rstrip())
    if uri.headers:
        raise GrammarError("a URI with headers needs angle brackets")
    return NameAddr(uri, "", parse_params(tail))


@dataclass(frozen=True, slots=True)
class Via:
    """One Via value (section 20.42). `host` keeps the brackets of an IPv6 literal, parameters keep their quotes."""

    transport: str
    host: str
    port: int | None = None
    params: Params = field(default_factory=dict)
    version: str = "2.0"

    @property
    def branch(self) -> str:
        return (self.params.get("branch") or "").strip('"')

    @property
    def bare_host(self) -> str:
        return self.host[1:-1] if self.host.startswith("[") else self.host

    def __str__(self) -> str:
        port = f":{self.port}" if self.port is not None else ""
        params = "".join(f";{k}" if v is None else f";{k}={v}" for k, v in self.params.items())
        return f"SIP/{self.version}/{self.transport} {self.host}{port}{params}"


@functools.lru_cache(REMEMBERED)
def parse_via(text: str) -> Via:
    """One Via value, its transport in capitals."""
    match = _VIA.match(text)
    if match is None or match[1].upper() != "SIP":
        raise GrammarError("bad Via")
    host, port = _host_port(match[4].strip())
    return Via(match[3].upper(), host, port, parse_params(match[5] or "", keep_quotes=True), match[2])
