"""Bundled streams in SDP: BUNDLE, ICE-lite and DTLS-SRTP (RFC 9143, RFC 8839, RFC 8842, RFC 8122). Answers only."""

from __future__ import annotations

import re

from orchestrator.rtp.bundle import FINGERPRINT_HASHES, BundleAgreement, Fingerprint
from orchestrator.sip.sdp.capabilities import BundleCapabilities, NotAcceptable
from orchestrator.sip.sdp.description import Media, SessionDescription

PROFILES = ("UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "TCP/DTLS/RTP/SAVPF", "TCP/DTLS/RTP/SAVP")
NOWHERE = ("0.0.0.0", 9)
"""Where the media of a bundle go as far as c= is concerned: ICE finds the way."""
_UFRAG = re.compile(r"[A-Za-z0-9+/]{4,256}", re.ASCII)
_DIGEST = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){31,63}", re.ASCII)


def is_bundled(media: Media) -> bool:
    """Whether its profile is that of DTLS-SRTP."""
    return media.proto.upper() in PROFILES


def group_of(session: SessionDescription) -> list[str]:
    """The identification tags of the first BUNDLE group; empty where there is none."""
    for name, value in session.attributes:
        if name == "group" and value and value.split()[0].upper() == "BUNDLE":
            return value.split()[1:]
    return []


def is_offered(media: Media) -> bool:
    """Whether the peer wants the stream: one that is only bundled has no port of its own (RFC 9143 section 6)."""
    return bool(media.port) or media.has("bundle-only")


def check_stream(session: SessionDescription, media: Media, first: Media | None) -> None:
    """Raises NotAcceptable for a stream that cannot share the transport of ``first``, the one that was taken
    before (None: it is the first)."""
    if not is_bundled(media):
        raise NotAcceptable(f"unsupported transport {media.proto}: media go by DTLS-SRTP here")
    if not media.has("rtcp-mux"):
        raise NotAcceptable("a stream by DTLS-SRTP needs a=rtcp-mux here")
    group = group_of(session)
    tags = [next(iter(stream.values("mid")), "") for stream in (media, first) if stream is not None]
    if first is not None and not set(tags) <= set(group):
        raise NotAcceptable(
            "all streams share one transport here: the offer must group them with a=group:BUNDLE"
        )


def read_bundle(session: SessionDescription, media: Media, own: BundleCapabilities) -> BundleAgreement:
    """What an offered stream says of its transport. Raises NotAcceptable."""
    ufrag = next(iter(session.values_of(media, "ice-ufrag")), "")
    if not _UFRAG.fullmatch(ufrag):
        raise NotAcceptable("media go by ICE here, and the offer has no a=ice-ufrag")
    if next(iter(session.values_of(media, "setup")), "actpass").lower() not in ("actpass", "active"):
        raise NotAcceptable("the offer must let this end be the DTLS server: a=setup:actpass or active")
    for value in session.values_of(media, "fingerprint"):
        algorithm, _, digest = value.partition(" ")
        if algorithm.lower() in FINGERPRINT_HASHES and _DIGEST.fullmatch(digest.strip()):
            fingerprint = Fingerprint(algorithm.lower(), digest.strip().upper())
            return BundleAgreement(own.credentials, ufrag, fingerprint)
    raise NotAcceptable("the offer has no a=fingerprint by SHA-256, SHA-384 or SHA-512")


def transport_lines(media: Media, own: BundleCapabilities, *, first: bool) -> list[str]:
    """The lines of one stream of our answer; candidates stand in the first, whose transport it is."""
    credentials, fingerprint = own.credentials, own.fingerprint
    lines = [f"a=mid:{tag}" for tag in media.values("mid")[:1]]
    lines += [
        f"a=ice-ufrag:{credentials.ufrag}",
        f"a=ice-pwd:{credentials.password}",
        f"a=fingerprint:{fingerprint.algorithm} {fingerprint.value}",
        "a=setup:passive",
        # One stream name for both: a browser keeps lips and voice together only then.
        f"a=msid:visavis {media.kind}",
    ]
    if first:
        lines += [f"a=candidate:{candidate}" for candidate in own.candidates]
        lines.append("a=end-of-candidates")
    return lines


def session_lines(accepted: list[Media]) -> list[str]:
    """What the answer says before its streams."""
    tags = [tag for media in accepted for tag in media.values("mid")[:1]]
    return [*([f"a=group:BUNDLE {' '.join(tags)}"] if tags else []), "a=ice-lite"]


def candidate(foundation: int, protocol: str, address: str, port: int, preference: int) -> str:
    """A host candidate (RFC 8839 section 5.1, RFC 6544 section 4.5); ``preference`` 0 to 65535."""
    # RFC 6544 section 4.2: what goes by TCP comes after everything by UDP.
    kind = 126 if protocol == "udp" else 90
    priority = (kind << 24) | (preference << 8) | 255
    tail = " tcptype passive" if protocol == "tcp" else ""
    return f"{foundation} 1 {protocol} {priority} {address} {port} typ host{tail}"
