"""a=crypto lines: SDES keys for SRTP (RFC 4568). The packets themselves are protected elsewhere."""

from __future__ import annotations

import base64
import binascii
import secrets

from orchestrator.rtp.agreed import SrtpKeys
from orchestrator.sip.sdp.description import small_int

Keys = dict[tuple[str, str], bytes]

# Suite name: bytes of master key and salt. The first is the one every SDES phone knows.
SUITES = {"AES_CM_128_HMAC_SHA1_80": 30, "AES_CM_128_HMAC_SHA1_32": 30}


def new_key(suite: str) -> bytes:
    return secrets.token_bytes(SUITES[suite])


def crypto_attribute(tag: int, suite: str, key: bytes) -> str:
    return f"a=crypto:{tag} {suite} inline:{base64.b64encode(key).decode()}"


def parse_crypto(value: str) -> tuple[int, str, bytes] | None:
    """(tag, suite, key and salt) of one attribute value; None for what cannot be used (MKI, other suites)."""
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
    if any(":" in part for part in fields[1:]):
        return None
    try:
        key = base64.b64decode(fields[0] + "=" * (-len(fields[0]) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
    return (tag, suite, key) if len(key) == SUITES[suite] else None


def accept_crypto(values: list[str], keys: Keys, stream: str) -> tuple[int, SrtpKeys] | None:
    """The tag of the first offered line we can use, and both keys; ours is kept in `keys` per stream."""
    for value in values:
        parsed = parse_crypto(value)
        if parsed is not None:
            tag, suite, key = parsed
            return tag, SrtpKeys(suite, keys.setdefault((stream, suite), new_key(suite)), key)
    return None
