"""SRTP and SRTCP of one stream with keys from SDES (RFC 3711, RFC 4568), through libsrtp."""

from __future__ import annotations

from pylibsrtp import Error, Policy, Session

from orchestrator.rtp.agreed import SrtpKeys

_PROFILES = {
    "AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    "AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
}
_TAG_BYTES = {"AES_CM_128_HMAC_SHA1_80": 10, "AES_CM_128_HMAC_SHA1_32": 4}
_RTCP_TAG_BYTES = 10
"""Of both suites (RFC 4568 section 6.2)."""


class Protection:
    """Both directions of one stream. Raises ``ValueError`` for a suite or key that cannot be used."""

    def __init__(self, keys: SrtpKeys) -> None:
        self.keys = keys
        self._tag = _TAG_BYTES.get(keys.suite, 0)
        self._outbound = _session(keys.suite, keys.local_key, Policy.SSRC_ANY_OUTBOUND)
        self._inbound = _session(keys.suite, keys.remote_key, Policy.SSRC_ANY_INBOUND)

    def rekeyed(self, keys: SrtpKeys) -> Protection:
        """The same, with what has changed; a direction whose key stays keeps its rollover counter."""
        new = Protection(keys)
        if keys.suite == self.keys.suite:
            if keys.local_key == self.keys.local_key:
                new._outbound = self._outbound
            if keys.remote_key == self.keys.remote_key:
                new._inbound = self._inbound
        return new

    def protect(self, packet: bytes | bytearray) -> bytes:
        """SRTP of an RTP packet; a packet sent again comes out the same. Raises ``OSError``."""
        try:
            protected: bytes = self._outbound.protect(bytes(packet))
        except (Error, ValueError) as error:
            raise OSError(f"SRTP: {error}") from error
        return _with_mki(protected, self.keys.local_mki, self._tag)

    def protect_rtcp(self, packet: bytes) -> bytes:
        """SRTCP of a compound packet. Raises ``OSError``."""
        try:
            protected: bytes = self._outbound.protect_rtcp(packet)
        except (Error, ValueError) as error:
            raise OSError(f"SRTCP: {error}") from error
        return _with_mki(protected, self.keys.local_mki, _RTCP_TAG_BYTES)

    def unprotect(self, packet: bytes) -> bytes | None:
        """RTP out of SRTP; ``None`` where it was not the peer who sent it, or a second time."""
        try:
            plain: bytes = self._inbound.unprotect(_without_mki(packet, self.keys.remote_mki, self._tag))
        except (Error, ValueError):
            return None
        return plain

    def unprotect_rtcp(self, packet: bytes) -> bytes | None:
        """RTCP out of SRTCP; ``None`` as above."""
        try:
            bare = _without_mki(packet, self.keys.remote_mki, _RTCP_TAG_BYTES)
            plain: bytes = self._inbound.unprotect_rtcp(bare)
        except (Error, ValueError):
            return None
        return plain


def _with_mki(packet: bytes, mki: bytes, tag: int) -> bytes:
    """The identifier stands before the authentication tag, which does not cover it (RFC 3711 section 3.1)."""
    return packet[:-tag] + mki + packet[-tag:] if mki else packet


def _without_mki(packet: bytes, mki: bytes, tag: int) -> bytes:
    """A packet that came without the identifier is left as it is: the tag says whether it is the peer's."""
    start = len(packet) - tag - len(mki)
    if not mki or start < 0 or packet[start:-tag] != mki:
        return packet
    return packet[:start] + packet[-tag:]


def _session(suite: str, key: bytes, direction: int) -> Session:
    profile = _PROFILES.get(suite)
    if profile is None:
        raise ValueError(f"no SRTP suite named {suite!r}: use {' or '.join(_PROFILES)}")
    policy = Policy(key, direction, 0, profile)
    policy.allow_repeat_tx = True  # NACK asks for the very same packet
    return Session(policy)
