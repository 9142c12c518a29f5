"""Session descriptions (RFC 8866): parsing and the pieces offer/answer reads. `SdpError` is all it raises."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.sip.message.grammar import is_token

MAX_BYTES = 65_536
MAX_MEDIA = 16
MAX_ATTRIBUTES = 256
MAX_FORMATS = 128
"""Of an m-line: there are no more payload types."""
USED = ("audio", "video")
"""The kinds of m-lines that are judged; others are refused, whatever they say."""
DIRECTIONS = ("sendrecv", "sendonly", "recvonly", "inactive")
STATIC = {0: ("PCMU", 8000), 3: ("GSM", 8000), 8: ("PCMA", 8000), 9: ("G722", 8000), 13: ("CN", 8000),
          18: ("G729", 8000), 26: ("JPEG", 90000), 31: ("H261", 90000), 34: ("H263", 90000)}  # fmt: skip


class SdpError(ValueError):
    """A body that is not a usable session description."""


@dataclass(frozen=True, slots=True)
class Format:
    """One payload type of an m-line: its encoding name as written, clock rate, channels and fmtp text."""

    payload_type: int
    name: str
    clock_rate: int
    channels: int = 1
    fmtp: str = ""

    @property
    def parameters(self) -> dict[str, str]:
        """The fmtp as `name=value` pairs, names lower-case, values without quotes around them."""
        pairs = (part.partition("=") for part in self.fmtp.split(";"))
        return {name.strip().lower(): value.strip(" \t\"'") for name, _, value in pairs if name.strip()}


@dataclass(slots=True)
class Media:
    """One m-line with what follows it. `address` is None where only the session's c= applies.

    It may be no IP address, and `formats` may be empty: such a stream is refused where it is to be used.
    """

    kind: str
    port: int
    proto: str
    formats: list[str]
    address: str | None = None
    bandwidth: dict[str, int] = field(default_factory=dict)
    attributes: list[tuple[str, str | None]] = field(default_factory=list)
    _codecs: tuple[Format, ...] | None = field(default=None, init=False, repr=False, compare=False)

    def values(self, name: str) -> list[str]:
        return [value or "" for key, value in self.attributes if key == name]

    def has(self, name: str) -> bool:
        return any(key == name for key, _ in self.attributes)

    def codecs(self) -> tuple[Format, ...]:
        """The offered formats in order; those without a name known are left out. Read once."""
        if self._codecs is None:
            self._codecs = tuple(self._read_codecs())
        return self._codecs

    def _read_codecs(self) -> Iterator[Format]:
        maps: dict[int, tuple[str, int, int]] = {}
        for value in self.values("rtpmap"):
            number, _, encoding = value.strip().partition(" ")
            parts = encoding.strip().split("/")
            payload_type = small_int(number, 127)
            rate = small_int(parts[1], 1_000_000) if len(parts) > 1 else None
            channels = small_int(parts[2], 255) if len(parts) > 2 else 1
            if payload_type is not None and rate and channels and is_token(parts[0]):
                maps[payload_type] = (parts[0], rate, channels)
        fmtp: dict[int, str] = {}
        for value in self.values("fmtp"):
            number, _, text = value.strip().partition(" ")
            payload_type = small_int(number, 127)
            if payload_type is not None:
                fmtp[payload_type] = text.strip()
        for text in self.formats:
            payload_type = small_int(text, 127)
            if payload_type is None:
                continue
            if payload_type in maps:
                yield Format(payload_type, *maps[payload_type], fmtp.get(payload_type, ""))
            elif payload_type in STATIC:
                yield Format(payload_type, *STATIC[payload_type], 1, fmtp.get(payload_type, ""))


@dataclass(slots=True)
class SessionDescription:
    """A session description; `session_id` and `version` are those of its o= line."""

    session_id: str = "0"
    version: str = "0"
    address: str | None = None
    bandwidth: dict[str, int] = field(default_factory=dict)
    attributes: list[tuple[str, str | None]] = field(default_factory=list)
    media: list[Media] = field(default_factory=list)

    def address_of(self, media: Media) -> str | None:
        return media.address or self.address

    def values_of(self, media: Media, name: str) -> list[str]:
        """The values of an attribute of the media, else those of the session."""
        return media.values(name) or [value for key, value in self.attributes if key == name and value]

    def direction_of(self, media: Media) -> str:
        """The media's direction, else the session's, else sendrecv."""
        for attributes in (media.attributes, self.attributes):
            for name, _ in attributes:
                if name in DIRECTIONS:
                    return name
        return "sendrecv"


def small_int(text: str, limit: int) -> int | None:
    """A non-negative decimal not above `limit`, else None."""
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) <= 10 and int(text) <= limit:
        return int(text)
    return None


def parse_sdp(body: bytes | str) -> SessionDescription:
    """Parse a body; unknown lines and attributes are kept or skipped, broken m= and v= lines refused."""
    text = body.decode("utf-8", "replace") if isinstance(body, bytes) else body
    if len(text) > MAX_BYTES:
        raise SdpError("the description is too long")
    session = SessionDescription()
    media: Media | None = None
    seen_version = False
    attributes = 0
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if len(line) < 2 or line[1] != "=":
            continue
        key, value = line[0], line[2:].strip()
        if key == "v":
            seen_version = True
            if value != "0":
                raise SdpError("unknown version")
        elif key == "o":
            session.session_id, session.version = _parse_origin(value)
        elif key == "m":
            media = _parse_media(value)
            if len(session.media) >= MAX_MEDIA:
                raise SdpError("too many m= lines")
            session.media.append(media)
        elif key == "c":
            (session if media is None else media).address = value
        elif key == "b":
            kind, _, number = value.partition(":")
            amount = small_int(number, 2**31)
            if amount is not None:
                (session if media is None else media).bandwidth[kind.strip().upper()] = amount
        elif key == "a":
            attributes += 1
            if attributes > MAX_ATTRIBUTES:
                raise SdpError("too many a= lines")
            name, colon, rest = value.partition(":")
            target = session if media is None else media
            target.attributes.append((name.strip().lower(), rest.strip() if colon else None))
    if not seen_version:
        raise SdpError("no v= line")
    session.address = session.address and _parse_connection(session.address)
    for media in session.media:
        media.address = media.address and _parse_connection(media.address)
    return session


def _parse_origin(value: str) -> tuple[str, str]:
    """The session's id and version, also where the user name has blanks in it or the address is missing."""
    parts = value.split()
    network = max((index for index, part in enumerate(parts) if part.upper() == "IN"), default=3)
    id_and_version = parts[max(network - 2, 0) : network]
    return (id_and_version[0], id_and_version[1]) if len(id_and_version) == 2 else ("0", "0")


def _parse_media(value: str) -> Media:
    parts = value.split()
    if len(parts) < 3:
        raise SdpError("bad m= line")
    kind, port = parts[0].lower(), small_int(parts[1].partition("/")[0], 65_535)
    if port is None and kind in USED:
        raise SdpError("bad port in an m= line")
    if not is_token(parts[0]) or not all(is_token(part) for part in parts[2].split("/")):
        raise SdpError("bad m= line")
    if len(parts) - 3 > MAX_FORMATS:
        raise SdpError("too many formats in an m= line")
    return Media(kind, port or 0, parts[2], [part for part in parts[3:] if is_token(part)])


def _parse_connection(value: str) -> str:
    """The address of a c= line, or what stands there instead: only who would send there has to care."""
    parts = value.split()
    if len(parts) < 3 or parts[0].upper() != "IN" or parts[1].upper() not in ("IP4", "IP6"):
        return value
    text = parts[2].partition("/")[0]
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return text
