"""One stream of a session description, for offers and answers alike: codec, addresses, direction."""

from __future__ import annotations

import ipaddress
import re
from fractions import Fraction
from math import inf

from orchestrator.rtp.agreed import Address, AudioMedia, Direction, SrtpKeys, VideoMedia
from orchestrator.sip.sdp.bundle import NOWHERE, is_bundled
from orchestrator.sip.sdp.capabilities import (
    AUDIO_CODECS,
    AudioCapabilities,
    MediaCapabilities,
    NotAcceptable,
    VideoCapabilities,
)
from orchestrator.sip.sdp.description import Format, Media, SessionDescription, small_int
from orchestrator.sip.sdp.h264 import choose

REVERSED: dict[str, Direction] = {
    "sendrecv": "sendrecv",
    "sendonly": "recvonly",
    "recvonly": "sendonly",
    "inactive": "inactive",
}
OPUS_FMTP = "useinbandfec=1"
VOIP_METRICS = "voip-metrics"
PTIME = 20
"""Milliseconds of voice in a packet, ours and those that we ask for."""
LEAST_FPS = 5.0
"""Frames a second: a face that changes less often does not speak."""
_DECIMAL = re.compile(r"\d{1,5}(\.\d{1,6})?", re.ASCII)
_NULL_ADDRESSES = ("0.0.0.0", "::")


def choose_audio(media: Media) -> tuple[Format, Format] | None:
    """The peer's first format that is a codec of ours: the codec, and the format as it stands there.

    Only where there is none, one that is known for being written otherwise: G722/16000, the rate that it samples
    at (RFC 3551 section 4.5.2 tells of the 8000), and opus/48000 without its two channels.
    """
    formats = media.codecs()
    for spelling in (_as_registered, _as_often_written):
        for offered in formats:
            for codec in AUDIO_CODECS:
                if offered.name.upper() == codec.name.upper() and spelling(offered, codec):
                    return codec, offered
    return None


def _chosen_opus(media: Media) -> tuple[Format, Format] | None:
    """Opus wherever a browser offers it, at whatever place."""
    opus = AUDIO_CODECS[0]
    offered = next(
        (f for f in media.codecs() if f.name.lower() == opus.name and _as_registered(f, opus)), None
    )
    return None if offered is None else (opus, offered)


def _without_camera(direction: Direction) -> Direction:
    """A browser's camera is not looked at, and not asked for."""
    return {"sendrecv": "sendonly", "recvonly": "inactive"}.get(direction, direction)  # type: ignore[return-value]


def _as_registered(offered: Format, codec: Format) -> bool:
    return (offered.clock_rate, offered.channels) == (codec.clock_rate, codec.channels)


def _as_often_written(offered: Format, codec: Format) -> bool:
    if codec.name == "G722":
        return (offered.clock_rate, offered.channels) == (16_000, 1)
    return codec.name == "opus" and (offered.clock_rate, offered.channels) == (codec.clock_rate, 1)


def packet_milliseconds(media: Media) -> int:
    """How much voice a packet of ours may hold: 20 ms, or less where a=maxptime asks for that; never below 5."""
    limits = [float(value) for value in media.values("maxptime") if _DECIMAL.fullmatch(value)]
    longest = min((limit for limit in limits if limit > 0), default=PTIME)
    return next((length for length in (PTIME, 10) if length <= longest), 5)


def codec_lines(codec: Format) -> list[str]:
    """The rtpmap and fmtp of an audio codec of ours."""
    number, channels = codec.payload_type, f"/{codec.channels}" if codec.channels > 1 else ""
    lines = [f"a=rtpmap:{number} {codec.name}/{codec.clock_rate}{channels}"]
    return [*lines, f"a=fmtp:{number} {OPUS_FMTP}"] if codec.name.lower() == "opus" else lines


def companion(media: Media, name: str, clock_rate: int) -> Format | None:
    """telephone-event or CN at the codec's own clock rate, else (telephone-event only) at 8000."""
    found = [f for f in media.codecs() if f.name.upper() == name.upper()]
    exact = [f for f in found if f.clock_rate == clock_rate]
    usable = exact or (found if name != "CN" else [])
    return usable[0] if usable else None


def read_audio(
    session: SessionDescription,
    media: Media,
    capabilities: MediaCapabilities,
    own: AudioCapabilities,
    keys: SrtpKeys | None,
) -> AudioMedia | None:
    """What a description says about a stream, whose m-line is `media`; None where none of its codecs is ours."""
    chosen = (_chosen_opus(media) if capabilities.bundle else None) or choose_audio(media)
    if chosen is None:
        return None
    codec, offered = chosen
    mux = media.has("rtcp-mux")
    rtp, rtcp = remote_addresses(session, media, mux=mux, capabilities=capabilities)
    event = companion(media, "telephone-event", codec.clock_rate)
    noise = companion(media, "CN", codec.clock_rate) if own.comfort_noise else None
    return AudioMedia(
        codec=codec.name,
        payload_type=offered.payload_type,
        remote=rtp,
        remote_rtcp=rtcp,
        direction=negotiated_direction(session, media, hold=capabilities.hold),
        rtcp_mux=mux,
        packet_ms=packet_milliseconds(media),
        telephone_event=event.payload_type if event else None,
        telephone_event_rate=event.clock_rate if event else 8000,
        comfort_noise=noise.payload_type if noise else None,
        voip_metrics=any(
            VOIP_METRICS in value.lower().split() for value in session.values_of(media, "rtcp-xr")
        ),
        keys=keys,
    )


def read_video(
    session: SessionDescription,
    media: Media,
    capabilities: MediaCapabilities,
    own: VideoCapabilities,
    keys: SrtpKeys | None,
) -> VideoMedia | None:
    """The same of H.264 video; None where no format of it can be used."""
    chosen = choose(media.codecs(), own.packetization_modes)
    if chosen is None:
        return None
    mux = media.has("rtcp-mux")
    rtp, rtcp = remote_addresses(session, media, mux=mux, capabilities=capabilities)
    width, height, fps = chosen.fit(own.width, own.height, min(own.fps, frame_rate_limit(media)))
    feedback = offered_feedback(media, chosen.payload_type, own.feedback)
    direction = negotiated_direction(session, media, hold=capabilities.hold)
    return VideoMedia(
        payload_type=chosen.payload_type,
        packetization_mode=chosen.packetization_mode,
        profile_level_id=chosen.profile_level_id,
        width=width,
        height=height,
        fps=Fraction(fps).limit_denominator(1001),
        bitrate=video_bitrate(session, media, own.bitrate, chosen.level.max_bitrate),
        remote=rtp,
        remote_rtcp=rtcp,
        direction=_without_camera(direction) if capabilities.bundle else direction,
        rtcp_mux=mux,
        feedback=frozenset(name for _, name in feedback),
        rtx_payload_type=_rtx_for(media, chosen.payload_type) if own.rtx else None,
        keys=keys,
    )


def offered_feedback(media: Media, payload_type: int, supported: frozenset[str]) -> list[tuple[str, str]]:
    """The a=rtcp-fb values that apply to `payload_type` and that we know, as (pt or *, feedback)."""
    found: list[tuple[str, str]] = []
    for value in media.values("rtcp-fb"):
        scope, _, feedback = value.partition(" ")
        feedback = " ".join(feedback.lower().split())
        if scope in ("*", str(payload_type)) and feedback in supported and (scope, feedback) not in found:
            found.append((scope, feedback))
    return found


def video_bitrate(session: SessionDescription, media: Media, own: int, level: int) -> int:
    """Bits a second for our encoder: b=TIAS or b=AS of the stream, else of the session less the audio."""
    limit = min(own, level)
    if "TIAS" in media.bandwidth:
        limit = min(limit, media.bandwidth["TIAS"])
    elif "AS" in media.bandwidth:
        limit = min(limit, media.bandwidth["AS"] * 950)
    elif "AS" in session.bandwidth or "CT" in session.bandwidth:
        total = min(session.bandwidth.get(kind, 2**31) for kind in ("AS", "CT"))
        limit = min(limit, max(total - 80, 0) * 950)
    return max(limit, 32_000)


def frame_rate_limit(media: Media) -> float:
    """Frames a second of a=framerate (RFC 8866 section 6.13), at least 5; without limit where there is none."""
    rates = [float(value) for value in media.values("framerate") if _DECIMAL.fullmatch(value)]
    return max(min((rate for rate in rates if rate > 0), default=inf), LEAST_FPS)


def _rtx_for(media: Media, payload_type: int) -> int | None:
    for candidate in media.codecs():
        if candidate.name.lower() == "rtx" and candidate.parameters.get("apt") == str(payload_type):
            return candidate.payload_type
    return None


def negotiated_direction(session: SessionDescription, media: Media, *, hold: bool) -> Direction:
    """Our direction. c=0.0.0.0 is the hold of RFC 2543: nothing is sent there."""
    direction = REVERSED[session.direction_of(media)]
    if session.address_of(media) in _NULL_ADDRESSES and not is_bundled(media):
        direction = "recvonly" if direction in ("sendrecv", "recvonly") else "inactive"
    if hold:
        direction = "sendonly" if direction in ("sendrecv", "sendonly") else "inactive"
    return direction


def remote_addresses(
    session: SessionDescription, media: Media, *, mux: bool, capabilities: MediaCapabilities
) -> tuple[Address, Address]:
    """Where RTP and RTCP go: a=rtcp (RFC 3605), rtcp-mux (RFC 5761), else the next port; nowhere in a bundle.

    Raises NotAcceptable where nothing gets from our address, where that is known, to c=; of an a=rtcp like that
    only the port counts.
    """
    if capabilities.bundle:
        return NOWHERE, NOWHERE
    own = capabilities.address
    named = session.address_of(media)
    if named is None:
        raise NotAcceptable("the description has no c= line")
    host = reachable(named, own)
    rtp = (host, media.port)
    if mux:
        return rtp, rtp
    for value in media.values("rtcp"):
        port_text, _, rest = value.partition(" ")
        port = small_int(port_text, 65_535)
        if port:
            parts = rest.split()
            try:
                return rtp, (reachable(parts[2], own) if len(parts) == 3 else host, port)
            except NotAcceptable:
                return rtp, (host, port)
    return rtp, (host, min(media.port + 1, 65_535))


def reachable(named: str, own: str) -> str:
    """The IP address `named`, in the family of `own` (RFC 6157 section 4). Raises NotAcceptable."""
    try:
        address = ipaddress.ip_address(named)
    except ValueError:
        raise NotAcceptable("c= names no IP address, and no name is looked up for media") from None
    family = 0 if not own or named in _NULL_ADDRESSES else 6 if ":" in own else 4
    if isinstance(address, ipaddress.IPv6Address) and family == 4 and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if family not in (0, address.version):
        raise NotAcceptable(
            f"c= names an IPv{address.version} address, and media go from an IPv{family} one here"
        )
    return named
