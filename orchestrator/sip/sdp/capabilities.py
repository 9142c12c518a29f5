"""Media capabilities and agreed media: the typed ends of offer/answer.

Directions and "remote" are seen from this side: `sends` is whether we send, `remote` is where to.
"""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.sip.sdp.description import Format

Address = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Crypto:
    """SDES keys (RFC 4568): `local_key` protects what we send; each is master key and salt, raw bytes."""

    tag: int
    suite: str
    local_key: bytes
    remote_key: bytes


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
class MediaCapabilities:
    """What a call of ours can do. `address` is advertised in c=; "" is the one we dial from, for calls of ours.

    A stream that is None is refused. `srtp`: off, optional or required.
    """

    address: str
    audio: AudioCapabilities | None = None
    video: VideoCapabilities | None = None
    srtp: str = "off"
    hold: bool = False


@dataclass(frozen=True, slots=True)
class AudioMedia:
    """An agreed audio stream. `codec` and `clock_rate` are those of `AUDIO_CODECS`.

    `packet_ms`: the milliseconds of voice that one packet of ours may hold. `voip_metrics`: the peer asks for these
    blocks of RTCP XR (RFC 3611 section 5.1).
    """

    codec: str
    payload_type: int
    clock_rate: int
    sends: bool
    receives: bool
    remote: Address
    remote_rtcp: Address
    rtcp_mux: bool
    packet_ms: int = 20
    telephone_event: int | None = None
    telephone_event_rate: int = 8000
    comfort_noise: int | None = None
    voip_metrics: bool = False
    crypto: Crypto | None = None


@dataclass(frozen=True, slots=True)
class VideoMedia:
    """An agreed H.264 stream. `width`, `height`, `fps` and `bitrate` are what the phone can take of ours."""

    payload_type: int
    packetization_mode: int
    profile_level_id: str
    width: int
    height: int
    fps: float
    bitrate: int
    sends: bool
    receives: bool
    remote: Address
    remote_rtcp: Address
    rtcp_mux: bool
    feedback: frozenset[str] = frozenset()
    rtx_payload_type: int | None = None
    crypto: Crypto | None = None


@dataclass(frozen=True, slots=True)
class NegotiatedMedia:
    """The agreed media of a call. A stream is None where refused, absent or never offered."""

    audio: AudioMedia | None = None
    video: VideoMedia | None = None
    remote_session: tuple[str, str] = ("0", "0")

    @property
    def on_hold(self) -> bool:
        """Whether the peer wants nothing from us at the moment."""
        streams = [stream for stream in (self.audio, self.video) if stream is not None]
        return bool(streams) and not any(stream.sends for stream in streams)


class NotAcceptable(Exception):
    """No agreement is possible: answer 488 (RFC 3261 section 13.3.1.3). The text says why."""
