"""Media capabilities and agreed media: the typed ends of offer/answer."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.rtp.agreed import AudioMedia, VideoMedia
from orchestrator.rtp.bundle import BundleAgreement, Fingerprint
from orchestrator.rtp.ice import IceCredentials
from orchestrator.sip.sdp.description import Format

AUDIO_CODECS = (
    Format(111, "opus", 48_000, 2),
    Format(9, "G722", 8_000),
    Format(0, "PCMU", 8_000),
    Format(8, "PCMA", 8_000),
)
"""The audio codecs of every call, as we offer them and in that order; an offer is answered in its own order.

G722's clock rate is 8000 (RFC 3551 section 4.5.2), opus always has two channels (RFC 7587 section 7).
"""


@dataclass(frozen=True, slots=True)
class AudioCapabilities:
    """Our audio end: the port of RTP (RTCP is one above), and whether comfort noise is understood."""

    port: int
    comfort_noise: bool = False


@dataclass(frozen=True, slots=True)
class VideoCapabilities:
    """Our video end: pixels, frames and bits a second; packetization modes in order of preference."""

    port: int
    width: int = 512
    height: int = 512
    fps: float = 25.0
    bitrate: int = 1_000_000
    packetization_modes: tuple[int, ...] = (1, 0)
    feedback: frozenset[str] = frozenset({"nack", "nack pli", "ccm fir"})
    rtx: bool = False


@dataclass(frozen=True, slots=True)
class BundleCapabilities:
    """Our end of a bundle (RFC 9143): ICE-lite, DTLS as the server. `candidates` are values of a=candidate."""

    credentials: IceCredentials
    fingerprint: Fingerprint
    candidates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MediaCapabilities:
    """What a call of ours can do. `address` is advertised in c=; "" is the one we dial from, for calls of ours.

    A stream that is None is refused. `srtp`: off, optional or required. With `bundle` all streams share one
    transport, by DTLS-SRTP, and nothing else is taken.
    """

    address: str
    audio: AudioCapabilities | None = None
    video: VideoCapabilities | None = None
    srtp: str = "off"
    hold: bool = False
    bundle: BundleCapabilities | None = None


@dataclass(frozen=True, slots=True)
class NegotiatedMedia:
    """The agreed media of a call. A stream is None where refused, absent or never offered."""

    audio: AudioMedia | None = None
    video: VideoMedia | None = None
    remote_session: tuple[str, str] = ("0", "0")
    bundle: BundleAgreement | None = None

    @property
    def on_hold(self) -> bool:
        """Whether the peer wants nothing from us at the moment."""
        streams = [stream for stream in (self.audio, self.video) if stream is not None]
        return bool(streams) and not any(stream.sends for stream in streams)


class NotAcceptable(Exception):
    """No agreement is possible: answer 488 (RFC 3261 section 13.3.1.3). The text says why."""
