"""The one transport of a bundle as signalling settled it: ICE-lite and DTLS-SRTP (RFC 9143, RFC 8445, RFC 5763)."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.rtp.ice import IceCredentials

FINGERPRINT_HASHES = ("sha-256", "sha-384", "sha-512")
"""RFC 8122 section 5."""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """Digest of a certificate as session descriptions have it: "sha-256", "AB:CD:..."."""

    algorithm: str
    value: str


@dataclass(frozen=True, slots=True)
class BundleAgreement:
    """``own`` is what the peer's checks must carry, with its ``remote_ufrag``; its certificate has this
    fingerprint."""

    own: IceCredentials
    remote_ufrag: str
    fingerprint: Fingerprint
