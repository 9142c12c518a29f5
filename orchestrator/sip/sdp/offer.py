"""An offer of ours (RFC 3264 section 5): its m-lines, and reading the answer to them."""

from __future__ import annotations

from dataclasses import replace

from orchestrator.rtp.agreed import SrtpKeys
from orchestrator.rtp.h264_levels import lowest_level
from orchestrator.sip.sdp.answer import refused
from orchestrator.sip.sdp.capabilities import (
    AUDIO_CODECS,
    AudioCapabilities,
    MediaCapabilities,
    NegotiatedMedia,
    NotAcceptable,
    VideoCapabilities,
)
from orchestrator.sip.sdp.crypto import Keys, crypto_attribute, new_key, parse_crypto
from orchestrator.sip.sdp.description import Media, SessionDescription
from orchestrator.sip.sdp.streams import PTIME, codec_lines, read_audio, read_video

SUITE = "AES_CM_128_HMAC_SHA1_80"
H264_PAYLOAD_TYPES = (97, 98)
RTX_PAYLOAD_TYPE = 99
"""RFC 4588; an answer of ours takes the offerer's."""
_TELEPHONE_EVENTS = ((101, 8_000), (110, 48_000))
"""Payload types and clock rates: one for each clock rate of our codecs (RFC 4733 section 2.4)."""


def _profile(capabilities: MediaCapabilities, *, feedback: bool) -> str:
    secure = "SAVP" if capabilities.srtp == "required" else "AVP"
    return f"RTP/{secure}" + ("F" if feedback else "")


def _crypto_lines(kind: str, capabilities: MediaCapabilities, keys: Keys) -> list[str]:
    if capabilities.srtp == "off":
        return []
    return [crypto_attribute(1, SUITE, keys.setdefault((kind, SUITE), new_key(SUITE)))]


def offer_audio(own: AudioCapabilities, capabilities: MediaCapabilities, keys: Keys) -> list[str]:
    formats = [codec.payload_type for codec in AUDIO_CODECS]
    lines = [line for codec in AUDIO_CODECS for line in codec_lines(codec)]
    if own.comfort_noise:
        formats.append(13)
        lines.append("a=rtpmap:13 CN/8000")
    for number, rate in _TELEPHONE_EVENTS:
        formats.append(number)
        lines += [f"a=rtpmap:{number} telephone-event/{rate}", f"a=fmtp:{number} 0-15"]
    lines += [f"a=ptime:{PTIME}", _direction(capabilities), "a=rtcp-mux"]
    lines += _crypto_lines("audio", capabilities, keys)
    profile = _profile(capabilities, feedback=False)
    return [f"m=audio {own.port} {profile} {' '.join(map(str, formats))}", *lines]


def _direction(capabilities: MediaCapabilities) -> str:
    return "a=sendonly" if capabilities.hold else "a=sendrecv"


def offer_video(own: VideoCapabilities, capabilities: MediaCapabilities, keys: Keys) -> list[str]:
    level = lowest_level(own.width, own.height, own.fps, own.bitrate)
    lines = [f"b=AS:{own.bitrate // 1000}"]
    formats: list[int] = []
    for number, mode in zip(H264_PAYLOAD_TYPES, own.packetization_modes, strict=False):
        formats.append(number)
        lines.append(f"a=rtpmap:{number} H264/90000")
        lines.append(
            f"a=fmtp:{number} profile-level-id=42e0{level:02x};packetization-mode={mode};level-asymmetry-allowed=1"
        )
    if own.rtx:
        lines += [f"a=rtpmap:{RTX_PAYLOAD_TYPE} rtx/90000", f"a=fmtp:{RTX_PAYLOAD_TYPE} apt={formats[0]}"]
        formats.append(RTX_PAYLOAD_TYPE)
    lines += [f"a=rtcp-fb:* {feedback}" for feedback in sorted(own.feedback)]
    lines += [_direction(capabilities), "a=rtcp-mux"]
    lines += _crypto_lines("video", capabilities, keys)
    # RTP/AVP with a=rtcp-fb, not RTP/AVPF: phones that do not know the latter refuse the stream.
    profile = _profile(capabilities, feedback=False)
    return [f"m=video {own.port} {profile} {' '.join(map(str, formats))}", *lines]


def make_offer(capabilities: MediaCapabilities, layout: list[Media], keys: Keys) -> list[list[str]]:
    """The m-lines of an offer. `layout` is the m-lines of the session so far: their order never changes.

    A stream that is in use stays where it is; one that is not takes the first line of its kind.
    """
    sections: list[list[str]] = []
    done: set[str] = set()
    in_use = {media.kind for media in layout if media.port}
    for media in layout:
        section = None
        if media.kind not in done and (media.port or media.kind not in in_use):
            section = _offer_kind(media.kind, capabilities, keys)
        if section is None:
            sections.append([refused(media)])
        else:
            done.add(media.kind)
            sections.append(section)
    for kind in ("audio", "video"):
        if kind not in done:
            section = _offer_kind(kind, capabilities, keys)
            if section is not None:
                sections.append(section)
    if not any(section for section in sections):
        raise NotAcceptable("there is nothing to offer")
    return sections


def _offer_kind(kind: str, capabilities: MediaCapabilities, keys: Keys) -> list[str] | None:
    if kind == "audio" and capabilities.audio is not None:
        return offer_audio(capabilities.audio, capabilities, keys)
    if kind == "video" and capabilities.video is not None:
        return offer_video(capabilities.video, capabilities, keys)
    return None


def _answered_crypto(media: Media, capabilities: MediaCapabilities, keys: Keys) -> SrtpKeys | None:
    for value in media.values("crypto") if capabilities.srtp != "off" else ():
        parsed = parse_crypto(value)
        own = keys.get((media.kind, parsed.suite)) if parsed else None
        if parsed and own:
            return SrtpKeys(parsed.suite, own, parsed.key, remote_mki=parsed.mki)
    if "SAVP" in media.proto.upper() or capabilities.srtp == "required":
        raise NotAcceptable("SRTP was asked for and the answer has no usable key")
    return None


def read_answer(
    offer: SessionDescription, answer: SessionDescription, capabilities: MediaCapabilities, keys: Keys
) -> NegotiatedMedia:
    """What an answer to `offer` (our own, parsed) agrees to. Raises NotAcceptable.

    An m-line that is missing is a refused one, further ones mean nothing, and an unusable picture leaves the voice.
    """
    audio = video = None
    fault = "every stream of the offer was refused"
    for asked, media in _mirrored(offer, answer):
        if not media.port or not asked.port:
            continue
        try:
            if media.kind == "audio" and capabilities.audio is not None and audio is None:
                crypto = _answered_crypto(media, capabilities, keys)
                audio = read_audio(answer, media, capabilities, capabilities.audio, crypto)
                if audio is None:
                    raise NotAcceptable("the answer names no audio codec of the offer")
                offered = tuple((f.payload_type, f.name, f.clock_rate) for f in asked.codecs())
                audio = replace(audio, offered=offered)
            elif media.kind == "video" and capabilities.video is not None and video is None:
                crypto = _answered_crypto(media, capabilities, keys)
                video = read_video(answer, media, capabilities, capabilities.video, crypto)
        except NotAcceptable as error:
            if media.kind == "audio":
                raise
            fault = str(error)
    if audio is None and video is None:
        raise NotAcceptable(fault)
    if audio is None and capabilities.audio is not None:
        raise NotAcceptable("the answer refuses the voice, which every call has here")
    return NegotiatedMedia(audio, video, (answer.session_id, answer.version))


def _mirrored(offer: SessionDescription, answer: SessionDescription) -> list[tuple[Media, Media]]:
    """Each m-line of the offer with the answer's next one of its kind; those that have none are left out."""
    left = list(answer.media)
    pairs = []
    for asked in offer.media:
        media = next((media for media in left if media.kind == asked.kind), None)
        if media is not None:
            left.remove(media)
            pairs.append((asked, media))
    return pairs
