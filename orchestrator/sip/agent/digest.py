"""Digest access authentication, the headers and the hash: MD5 and SHA-256 with qop=auth (RFC 7616, RFC 8760).

A challenge without qop is answered as RFC 2069 has it.
"""

from __future__ import annotations

import hashlib
import re

STRONGEST_FIRST = ("SHA-256", "MD5")
_HASHES = {"MD5": "md5", "SHA-256": "sha256"}
_PARAMETER = re.compile(
    r'(?<![\w-])([\w-]+)[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*))', re.ASCII | re.DOTALL
)
_UNQUOTED = ("algorithm", "qop", "nc")


def parse_digest(value: str) -> dict[str, str] | None:
    """The parameters of a challenge or of credentials, names lower-case; None for another scheme than Digest.

    Quoted values lose their quotes and keep their escapes: so they are hashed, and sent back.
    """
    scheme, _, rest = value.strip().partition(" ")
    if scheme.lower() != "digest":
        return None
    return {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}


def format_credentials(parameters: dict[str, str]) -> str:
    """The value of Authorization or Proxy-Authorization (RFC 7616 section 3.4)."""
    parts = (f"{k}={v}" if k in _UNQUOTED else f'{k}="{v}"' for k, v in parameters.items())
    return f"Digest {', '.join(parts)}"


def digest_response(parameters: dict[str, str], password: str, method: str) -> str | None:
    """What `response` must be beside these parameters of credentials (RFC 7616 section 3.4.1).

    None where it cannot be computed: an algorithm or qop that is none of ours, or bytes that are no UTF-8.
    """
    name = _HASHES.get(parameters.get("algorithm", "MD5").upper())
    qop = parameters.get("qop")
    if name is None or qop not in (None, "auth"):
        return None

    def h(*parts: str) -> str:
        return hashlib.new(name, ":".join(parts).encode(), usedforsecurity=False).hexdigest()

    def given(*names: str) -> list[str]:
        return [parameters.get(each, "") for each in names]

    try:
        secret = h(*given("username", "realm"), password)
        asked = h(method, *given("uri"))
        return h(secret, *given("nonce", "nc", "cnonce", "qop") if qop else given("nonce"), asked)
    except UnicodeEncodeError:
        return None


def answer_challenge(
    challenge: dict[str, str], username: str, password: str, method: str, uri: str, *, count: int, cnonce: str
) -> dict[str, str] | None:
    """Credentials for a challenge, whose nonce they are the `count`th to use; None where it cannot be answered."""
    offered = [qop.strip().lower() for qop in challenge.get("qop", "").split(",") if qop.strip()]
    if not challenge.get("nonce") or (offered and "auth" not in offered):
        return None
    credentials = {
        "username": username,
        "realm": challenge.get("realm", ""),
        "nonce": challenge["nonce"],
        "uri": uri,
        "algorithm": challenge.get("algorithm", "MD5"),
    }
    if offered:
        credentials |= {"qop": "auth", "nc": f"{count:08x}", "cnonce": cnonce}
    if "opaque" in challenge:
        credentials["opaque"] = challenge["opaque"]
    response = digest_response(credentials, password, method)
    return None if response is None else {**credentials, "response": response}
