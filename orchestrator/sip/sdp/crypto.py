"""a=crypto lines: SDES keys for SRTP (RFC 4568). The packets themselves are protected elsewhere."""

from __future__ import annotations

import base64
import binascii
import secrets
from dataclasses import dataclass

from orchestrator.rtp.agreed import SrtpKeys
from orchestrator.sip.sdp.description import small_int

Keys = dict[tuple[str, str], bytes]

# Suite name: bytes of master key and salt. The first is the one every SDES phone knows.
SUITES = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30}
MAX_MKI_BYTES = 16


def new_key(suite: str) -> bytes:
    return secrets.token_bytes(SUITES[suite])


def crypto_attribute(tag: int, suite: str, key: bytes, mki: bytes = b"") -> str:
    identifier = f"|2^31|{int.from_bytes(mki)}:{len(mki)}" if mki else ""
    return f"a=crypto:{tag} {suite} inline:{base64.b64encode(key).decode()}{identifier}"


@dataclass(frozen=True, slots=True)
class Crypto:
    """One a=crypto line: `key` is master key and salt, `mki` its identifier, empty where it has none."""

    tag: int
    suite: str
    key: bytes
    mki: bytes = b""


def parse_crypto(value: str) -> Crypto | None:
    """One attribute value; None for what cannot be used (other suites, several keys)."""
    parts = value.split()
    if len(parts) < 3 or not parts[2].lower().startswith("inline:"):
        return None
    tag, suite = small_int(parts[0], 10**9), parts[1].upper()
    if tag is None or suite not in SUITES:
        return None
    if any(parameter.upper().startswith("UNENCRYPTED") or parameter.upper() == "UNAUTHENTICATED_SRTP"
           for parameter in parts[3:]):  # fmt: skip
        return None
    fields = parts[2][7:].rstrip(";").split("|")
    identifiers = [_parse_mki(part) for part in fields[1:] if ":" in part]
    if len(identifiers) > 1 or None in identifiers:
        return None
    try:
        key = base64.b64decode(fields[0] + "=" * (-len(fields[0]) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return (
        Crypto(tag, suite, key, *(mki for mki in identifiers if mki)) if len(key) == SUITES[suite] else None
    )


def _parse_mki(text: str) -> bytes | None:
    """`value:length` (RFC 4568 section 6.1) as it stands in packets; None where it does not fit."""
    value_text, _, length_text = text.partition(":")
    value, length = small_int(value_text, 2**32 - 1), small_int(length_text, MAX_MKI_BYTES)
    if value is None or not length or value >= 256**length:
        return None
    return value.to_bytes(length)


def accept_crypto(values: list[str], keys: Keys, stream: str) -> tuple[int, SrtpKeys] | None:
    """The tag of the first offered line we can use, and both keys; ours is kept in `keys` per stream.

    Where the offered key has an identifier, ours has the same.
    """
    for value in values:
        parsed = parse_crypto(value)
        if parsed is not None:
            own = keys.setdefault((stream, parsed.suite), new_key(parsed.suite))
            return parsed.tag, SrtpKeys(parsed.suite, own, parsed.key, parsed.mki, parsed.mki)
    return None
