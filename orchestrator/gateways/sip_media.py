"""From what SDP agreed to what a media worker is told, and back: what a call of ours can do."""

from __future__ import annotations

import math
from dataclasses import fields, replace
from fractions import Fraction
from typing import Any

from orchestrator.calls.gateway import Agreement
from orchestrator.config import Settings
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.rtp.agreed import AudioMedia, VideoMedia
from orchestrator.rtp.consent import Networks, SignallingPeer
from orchestrator.sip.sdp.bundle import is_offered
from orchestrator.sip.sdp.capabilities import (
    AudioCapabilities,
    MediaCapabilities,
    NegotiatedMedia,
    VideoCapabilities,
)
from orchestrator.sip.sdp.description import SessionDescription
from orchestrator.worker.messages import CallOpened

FEEDBACK = frozenset({"nack", "nack pli", "ccm fir", "ccm tmmbr", "goog-remb"})
PRIVATE_NETWORKS = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")
LOCAL_NETWORKS = ("127.0.0.0/8", "::1/128")
"""Other machines never send from these: they count only for signalling that comes from there."""


def capabilities(settings: Settings, ports: CallOpened, host: str, account: str) -> MediaCapabilities:
    """What a call with these ports can do, reached at ``host``, over the trunk ``account`` ("": none).

    Without a host a call of ours is reached where it dials from.
    """
    trunk = settings.account(account)
    srtp = (trunk and trunk.srtp) or settings.srtp
    width, height = settings.video_size
    video = None
    if ports.video_port is not None:
        video = VideoCapabilities(
            ports.video_port,
            width,
            height,
            float(settings.frame_rate),
            settings.video_bitrate,
            feedback=FEEDBACK,
            rtx=True,
        )
    audio = AudioCapabilities(ports.audio_port, comfort_noise=settings.comfort_noise)
    return MediaCapabilities(host, audio, video, srtp=srtp)


def trim_ms(settings: Settings, account: str) -> int:
    """How much later the picture is shown than the voice is heard, over this trunk."""
    trunk = settings.account(account)
    return settings.av_trim_ms if trunk is None or trunk.av_trim_ms is None else trunk.av_trim_ms


def offers_video(offer: SessionDescription | None) -> bool:
    """Whether a caller could be shown a picture; one who leaves the offer to us might."""
    return offer is None or any(media.kind == "video" and is_offered(media) for media in offer.media)


def agreement(
    settings: Settings, media: NegotiatedMedia, hosts: tuple[str, ...], account: str, fps: Fraction | None
) -> Agreement | None:
    """What was negotiated, as a call is told of it; None without a voice. ``hosts`` as for :func:`signalling_peer`;
    ``fps`` is the body's, None while it is not settled."""
    if media.audio is None:
        return None
    fps = fps or frame_rate(settings, media.video)
    peer = signalling_peer(settings, hosts, media)
    video = video_parameters(settings, media.video, fps, peer) if media.video else None
    audio = audio_parameters(media.audio, peer)
    return Agreement(audio, video, fps, trim_ms(settings, account), media.bundle)


def frame_rate(settings: Settings, video: VideoMedia | None) -> Fraction:
    """Ours, or the phone's where that is lower."""
    if video is None:
        return settings.frame_rate
    return min(settings.frame_rate, video.fps)


def signalling_peer(settings: Settings, hosts: tuple[str, ...], media: NegotiatedMedia) -> SignallingPeer:
    """Whom a call's media may go to; ``hosts`` are its signalling's, the one that it comes from first.

    Without ``media_from`` a phone may be learnt from private networks where the signalling comes from one itself,
    for another machine than its own: a proxy's or an exchange's.
    """
    networks = tuple(settings.media_from)
    if networks == ("none",):
        networks = ()
    elif not networks and media.audio is not None and media.audio.remote[0] not in hosts:
        local = [network for network in LOCAL_NETWORKS if hosts[0] in Networks([network])]
        networks = (*PRIVATE_NETWORKS, *local) if hosts[0] in Networks(PRIVATE_NETWORKS) or local else ()
    return SignallingPeer(hosts, networks)


def audio_parameters(media: AudioMedia, peer: SignallingPeer) -> AudioParameters:
    """An agreed voice for its worker."""
    return AudioParameters(**_agreed(media), peer=peer)


def video_parameters(
    settings: Settings, media: VideoMedia, fps: Fraction, peer: SignallingPeer
) -> VideoParameters:
    """An agreed picture for its worker, who repeats lost packets only where they can be asked for.

    ``fps`` is the body's: a phone that takes fewer, and had no picture when that was settled, is sent a share.
    """
    rtx = media.rtx_payload_type if "nack" in media.feedback else None
    every = math.ceil(fps / media.fps)
    agreed = _agreed(replace(media, fps=fps, rtx_payload_type=rtx))
    refresh, mark = settings.video_refresh, settings.picture_mark
    return VideoParameters(**agreed, refresh=refresh, peer=peer, every=every, mark=mark)


def _agreed(media: AudioMedia | VideoMedia) -> dict[str, Any]:
    return {each.name: getattr(media, each.name) for each in fields(media)}
