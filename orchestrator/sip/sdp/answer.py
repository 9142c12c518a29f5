"""The answer to an offer (RFC 3264 section 6): its m-lines and the agreed media.

Pure functions. Every offered m-line is mirrored; what we cannot do is refused with port 0. The audio
answer names one codec (and telephone-event), so that a peer never changes codec unannounced.
"""

from __future__ import annotations

from orchestrator.rtp.agreed import AudioMedia, SrtpKeys, VideoMedia
from orchestrator.rtp.bundle import BundleAgreement
from orchestrator.sip.sdp.bundle import check_stream, is_bundled, is_offered, read_bundle, transport_lines
from orchestrator.sip.sdp.capabilities import (
    AudioCapabilities,
    MediaCapabilities,
    NegotiatedMedia,
    NotAcceptable,
    VideoCapabilities,
)
from orchestrator.sip.sdp.crypto import Keys, accept_crypto, crypto_attribute
from orchestrator.sip.sdp.description import USED, Media, SessionDescription
from orchestrator.sip.sdp.streams import (
    PTIME,
    VOIP_METRICS,
    codec_lines,
    negotiated_direction,
    offered_feedback,
    read_audio,
    read_video,
)


def answer_offer(
    offer: SessionDescription, capabilities: MediaCapabilities, keys: Keys
) -> tuple[list[list[str]], NegotiatedMedia]:
    """The answer's m-lines (each with its attribute lines) and what was agreed.

    Raises NotAcceptable where no voice is left of a call that has one here, or nothing at all.
    """
    sections = [[refused(media)] for media in offer.media]
    audio: AudioMedia | None = None
    video: VideoMedia | None = None
    bundle: BundleAgreement | None = None
    first: Media | None = None
    refusal = ""
    for index in sorted(range(len(offer.media)), key=lambda index: _distance_from_main(offer.media[index])):
        media = offer.media[index]
        try:
            offered = bool(media.port) if capabilities.bundle is None else is_offered(media)
            if capabilities.bundle and offered and media.kind in USED:
                check_stream(offer, media, first)
                bundle = bundle or read_bundle(offer, media, capabilities.bundle)
            if media.kind == "audio" and audio is None and offered and capabilities.audio:
                sections[index], audio = _answer_audio(offer, media, capabilities, capabilities.audio, keys)
                first = first or media
            elif media.kind == "video" and video is None and offered and capabilities.video:
                sections[index], video = _answer_video(offer, media, capabilities, capabilities.video, keys)
                first = first or media
        except NotAcceptable as error:
            if media.kind == "audio":
                refusal = str(error)
    if audio is None and refusal:
        raise NotAcceptable(refusal)
    if audio is None and video is None and any(media.port for media in offer.media):
        raise NotAcceptable("no stream of the offer can be used")
    if not offer.media:
        raise NotAcceptable("the offer has no streams")
    if audio is None and capabilities.audio is not None:
        raise NotAcceptable("the offer has no voice, which every call has here")
    if capabilities.bundle:
        taken = [media for media, section in zip(offer.media, sections, strict=True) if len(section) > 1]
        for media, section in zip(offer.media, sections, strict=True):
            if len(section) > 1:
                section += transport_lines(media, capabilities.bundle, first=media is taken[0])
    return sections, NegotiatedMedia(audio, video, (offer.session_id, offer.version), bundle)


def _distance_from_main(media: Media) -> int:
    """How far a stream's a=content (RFC 4796) is from a face and its voice; without one it is as good as main."""
    contents = {content.strip().lower() for value in media.values("content") for content in value.split(",")}
    contents.discard("")
    if not contents or "main" in contents:
        return 0
    return 2 if "slides" in contents else 1


def refused(media: Media) -> str:
    """The m-line of a stream that is refused, with one format at least (RFC 8866 section 5.14)."""
    return f"m={media.kind} 0 {media.proto} {' '.join(media.formats) or '0'}"


def agreed_crypto(
    media: Media, capabilities: MediaCapabilities, keys: Keys
) -> tuple[list[str], SrtpKeys | None]:
    """Our a=crypto lines and the keys for a stream. Raises NotAcceptable for a profile that cannot be used."""
    profile = media.proto.upper()
    if capabilities.bundle and is_bundled(media):
        return [], None
    if profile in ("RTP/SAVP", "RTP/SAVPF"):
        if capabilities.srtp == "off":
            raise NotAcceptable("SRTP is not enabled here")
        crypto = accept_crypto(media.values("crypto"), keys, media.kind)
        if crypto is None:
            raise NotAcceptable("SRTP without a usable a=crypto line")
        return crypto_lines(*crypto), crypto[1]
    if profile not in ("RTP/AVP", "RTP/AVPF"):
        raise NotAcceptable(f"unsupported transport {media.proto}")
    crypto = accept_crypto(media.values("crypto"), keys, media.kind) if capabilities.srtp != "off" else None
    if crypto is None and capabilities.srtp == "required":
        raise NotAcceptable("SRTP is required here")
    return ([], None) if crypto is None else (crypto_lines(*crypto), crypto[1])


def _answer_audio(
    session: SessionDescription,
    media: Media,
    capabilities: MediaCapabilities,
    own: AudioCapabilities,
    keys: Keys,
) -> tuple[list[str], AudioMedia]:
    secure, agreed_keys = agreed_crypto(media, capabilities, keys)
    agreed = read_audio(session, media, capabilities, own, agreed_keys)
    if agreed is None:
        raise NotAcceptable("none of the offered audio codecs is known here")
    formats = [agreed.payload_type]
    codec = next(f for f in media.codecs() if f.payload_type == agreed.payload_type)
    lines = codec_lines(codec)
    if agreed.telephone_event is not None:
        formats.append(agreed.telephone_event)
        lines.append(f"a=rtpmap:{agreed.telephone_event} telephone-event/{agreed.telephone_event_rate}")
        lines.append(f"a=fmtp:{agreed.telephone_event} 0-15")
    if agreed.comfort_noise is not None:
        formats.append(agreed.comfort_noise)
        noise = next(f for f in media.codecs() if f.payload_type == agreed.comfort_noise)
        lines.append(f"a=rtpmap:{agreed.comfort_noise} CN/{noise.clock_rate}")
    lines.append(f"a=ptime:{PTIME}")
    if agreed.voip_metrics:
        lines.append(f"a=rtcp-xr:{VOIP_METRICS}")
    lines.append(f"a={negotiated_direction(session, media, hold=capabilities.hold)}")
    if agreed.rtcp_mux:
        lines.append("a=rtcp-mux")
    lines += secure
    return [f"m=audio {own.port} {media.proto} {' '.join(map(str, formats))}", *lines], agreed


def crypto_lines(tag: int, keys: SrtpKeys) -> list[str]:
    """The a=crypto line of an answer, with the tag of the one that was offered (RFC 4568 section 5.1.2)."""
    return [crypto_attribute(tag, keys.suite, keys.local_key, keys.local_mki)]


def _answer_video(
    session: SessionDescription,
    media: Media,
    capabilities: MediaCapabilities,
    own: VideoCapabilities,
    keys: Keys,
) -> tuple[list[str], VideoMedia]:
    secure, agreed_keys = agreed_crypto(media, capabilities, keys)
    agreed = read_video(session, media, capabilities, own, agreed_keys)
    if agreed is None:
        raise NotAcceptable("no usable H.264 format is offered")
    number = agreed.payload_type
    offered = next(f for f in media.codecs() if f.payload_type == number)
    asymmetry = offered.parameters.get("level-asymmetry-allowed") == "1"
    mode = agreed.packetization_mode
    fmtp = f"a=fmtp:{number} profile-level-id={agreed.profile_level_id};packetization-mode={mode}"
    formats = [number]
    lines = [f"a=rtpmap:{number} H264/90000", fmtp + (";level-asymmetry-allowed=1" if asymmetry else "")]
    if agreed.rtx_payload_type is not None:
        formats.append(agreed.rtx_payload_type)
        lines.append(f"a=rtpmap:{agreed.rtx_payload_type} rtx/90000")
        lines.append(f"a=fmtp:{agreed.rtx_payload_type} apt={number}")
    for scope, feedback in offered_feedback(media, number, own.feedback):
        lines.append(f"a=rtcp-fb:{scope} {feedback}")
    lines.append(f"a={agreed.direction}")
    if agreed.rtcp_mux:
        lines.append("a=rtcp-mux")
    lines += secure
    head = f"m=video {own.port} {media.proto} {' '.join(map(str, formats))}"
    return [head, f"b=AS:{own.bitrate // 1000}", *lines], agreed
