"""STUN messages (RFC 8489): reading, checking and writing them. Sans-IO."""

from __future__ import annotations

import hashlib
import hmac
import socket
import struct
import zlib
from dataclasses import dataclass

from orchestrator.rtp.agreed import Address

BINDING_REQUEST, BINDING_SUCCESS, BINDING_ERROR = 0x0001, 0x0101, 0x0111
USERNAME, MESSAGE_INTEGRITY, ERROR_CODE, UNKNOWN_ATTRIBUTES = 0x0006, 0x0008, 0x0009, 0x000A
XOR_MAPPED_ADDRESS, PRIORITY, USE_CANDIDATE = 0x0020, 0x0024, 0x0025
FINGERPRINT, ICE_CONTROLLED, ICE_CONTROLLING = 0x8028, 0x8029, 0x802A
COMPREHENSION_OPTIONAL = 0x8000
"""Attributes from here on may be skipped by whoever does not know them (section 14)."""

_COOKIE = 0x2112A442
_COOKIE_BYTES = _COOKIE.to_bytes(4)
_HEADER = struct.Struct("!HHI12s")
_ATTRIBUTE = struct.Struct("!HH")
_INTEGRITY_BYTES, _FINGERPRINT_BYTES = 24, 8
_FINGERPRINT_MASK = 0x5354554E


class StunError(ValueError):
    """What looks like STUN and is none."""


def looks_like_stun(data: bytes | bytearray | memoryview) -> bool:
    """By first octet and magic cookie (RFC 7983 section 7, RFC 8489 section 5)."""
    return len(data) >= _HEADER.size and data[0] < 4 and bytes(data[4:8]) == _COOKIE_BYTES


@dataclass(frozen=True, slots=True)
class StunMessage:
    """A message as it came: ``attributes`` are those that its integrity covers, or all where it has none."""

    kind: int
    transaction: bytes
    attributes: tuple[tuple[int, bytes], ...]
    data: bytes
    integrity_at: int | None

    def value(self, attribute: int) -> bytes | None:
        """The first attribute of this type."""
        return next((value for kind, value in self.attributes if kind == attribute), None)

    def is_authentic(self, key: bytes) -> bool:
        """Whether MESSAGE-INTEGRITY was made with this key (section 14.5)."""
        at = self.integrity_at
        if at is None:
            return False
        head = _HEADER.pack(self.kind, at - _HEADER.size + _INTEGRITY_BYTES, _COOKIE, self.transaction)
        wanted = hmac.digest(key, head + self.data[_HEADER.size : at], hashlib.sha1)
        return hmac.compare_digest(wanted, self.data[at + 4 : at + _INTEGRITY_BYTES])


def parse(data: bytes) -> StunMessage:
    """Raises :class:`StunError`, also where there is a FINGERPRINT that is wrong (section 14.7)."""
    if not looks_like_stun(data):
        raise StunError("no STUN message")
    kind, size, _, transaction = _HEADER.unpack_from(data)
    if size % 4 or size + _HEADER.size != len(data):
        raise StunError("the length of a STUN message is wrong")
    attributes: list[tuple[int, bytes]] = []
    integrity_at: int | None = None
    at = _HEADER.size
    while at < len(data):
        if at + 4 > len(data):
            raise StunError("a STUN attribute is cut off")
        name, length = _ATTRIBUTE.unpack_from(data, at)
        end = at + 4 + length
        if end > len(data):
            raise StunError("a STUN attribute is cut off")
        value = data[at + 4 : end]
        if name == FINGERPRINT:
            if length != 4 or end != len(data) or int.from_bytes(value) != _checksum(data[:at]):
                raise StunError("the FINGERPRINT of a STUN message is wrong")
        elif name == MESSAGE_INTEGRITY and integrity_at is None:
            if length != 20:
                raise StunError("MESSAGE-INTEGRITY has 20 bytes")
            integrity_at = at
        elif integrity_at is None:
            attributes.append((name, value))
        at = end + -length % 4
    return StunMessage(kind, transaction, tuple(attributes), data, integrity_at)


def build(kind: int, transaction: bytes, attributes: list[tuple[int, bytes]], key: bytes) -> bytes:
    """A message with MESSAGE-INTEGRITY by ``key`` and FINGERPRINT behind its attributes."""
    body = b"".join(_ATTRIBUTE.pack(name, len(v)) + v + bytes(-len(v) % 4) for name, v in attributes)
    head = _HEADER.pack(kind, len(body) + _INTEGRITY_BYTES, _COOKIE, transaction)
    digest = hmac.digest(key, head + body, hashlib.sha1)
    body += _ATTRIBUTE.pack(MESSAGE_INTEGRITY, len(digest)) + digest
    data = _HEADER.pack(kind, len(body) + _FINGERPRINT_BYTES, _COOKIE, transaction) + body
    return data + _ATTRIBUTE.pack(FINGERPRINT, 4) + _checksum(data).to_bytes(4)


def xor_address(address: Address, transaction: bytes) -> bytes:
    """The value of XOR-MAPPED-ADDRESS (section 14.2); a zone of an IPv6 address is left out, and an IPv4 address
    that came to a socket for both is one again."""
    host, port = address[0].partition("%")[0], address[1]
    if host.startswith("::ffff:") and "." in host:
        host = host.removeprefix("::ffff:")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    packed = _xored(socket.inet_pton(family, host), transaction)
    return struct.pack("!BBH", 0, 2 if len(packed) == 16 else 1, port ^ (_COOKIE >> 16)) + packed


def read_xor_address(value: bytes, transaction: bytes) -> Address:
    """The address in such a value. Raises :class:`StunError`."""
    family, size = (socket.AF_INET6, 20) if value[1:2] == b"\x02" else (socket.AF_INET, 8)
    if len(value) != size:
        raise StunError("no usable XOR-MAPPED-ADDRESS")
    host = socket.inet_ntop(family, _xored(value[4:], transaction))
    return host, int.from_bytes(value[2:4]) ^ (_COOKIE >> 16)


def error_code(status: int, reason: str) -> bytes:
    """The value of ERROR-CODE (section 14.8)."""
    return bytes((0, 0, status // 100, status % 100)) + reason.encode()


def _xored(packed: bytes, transaction: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(packed, _COOKIE_BYTES + transaction, strict=False))


def _checksum(data: bytes) -> int:
    """FINGERPRINT of what stands before it, whose length field counts it already."""
    return zlib.crc32(data) ^ _FINGERPRINT_MASK
