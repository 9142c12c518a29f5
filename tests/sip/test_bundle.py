"""Answers to the offers of browsers: one transport, Opus first, no camera, and what is refused with a sentence."""

from __future__ import annotations

import pytest

from orchestrator.rtp.bundle import BundleAgreement, Fingerprint
from orchestrator.rtp.ice import IceCredentials
from orchestrator.sip.sdp.bundle import candidate
from orchestrator.sip.sdp.capabilities import (
    AudioCapabilities,
    BundleCapabilities,
    MediaCapabilities,
    NotAcceptable,
    VideoCapabilities,
)
from orchestrator.sip.sdp.session import SdpSession

DIGEST = ":".join(["AB"] * 32)
OWN = BundleCapabilities(
    IceCredentials("ourufrag", "ourpassword0123456789ab"),
    Fingerprint("sha-256", ":".join(["CD"] * 32)),
    (candidate(1, "udp", "192.0.2.1", 4000, 65535), candidate(2, "tcp", "127.0.0.1", 8080, 65535)),
)
WEB = MediaCapabilities(
    "192.0.2.1",
    AudioCapabilities(4000),
    VideoCapabilities(4000, feedback=frozenset({"nack", "nack pli", "ccm fir"}), rtx=True),
    bundle=OWN,
)
# As Chromium writes it, shortened.
OFFER = f"""v=0
o=- 4611731400430051336 2 IN IP4 127.0.0.1
s=-
t=0 0
a=group:BUNDLE 0 1
a=extmap-allow-mixed
a=msid-semantic: WMS
m=audio 9 UDP/TLS/RTP/SAVPF 0 111 63 9 126
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=ice-options:trickle
a=fingerprint:sha-256 {DIGEST}
a=setup:actpass
a=mid:0
a=sendrecv
a=rtcp-mux
a=rtpmap:0 PCMU/8000
a=rtpmap:111 opus/48000/2
a=fmtp:111 minptime=10;useinbandfec=1
a=rtpmap:63 red/48000/2
a=rtpmap:9 G722/8000
a=rtpmap:126 telephone-event/8000
m=video 9 UDP/TLS/RTP/SAVPF 96 97 103 104
c=IN IP4 0.0.0.0
a=rtcp:9 IN IP4 0.0.0.0
a=ice-ufrag:EsAw
a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1
a=fingerprint:sha-256 {DIGEST}
a=setup:actpass
a=mid:1
a=sendrecv
a=rtcp-mux
a=rtpmap:96 VP8/90000
a=rtpmap:97 rtx/90000
a=fmtp:97 apt=96
a=rtpmap:103 H264/90000
a=rtcp-fb:103 goog-remb
a=rtcp-fb:103 transport-cc
a=rtcp-fb:103 ccm fir
a=rtcp-fb:103 nack
a=rtcp-fb:103 nack pli
a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=rtpmap:104 rtx/90000
a=fmtp:104 apt=103
""".replace("\n", "\r\n")


def answer(offer: str) -> tuple[SdpSession, list[str]]:
    session = SdpSession()
    return session, session.answer(offer, WEB).split("\r\n")


def test_the_offer_of_a_browser_is_answered_with_one_transport() -> None:
    session, lines = answer(OFFER)
    media = session.media
    assert media is not None
    assert media.audio is not None
    assert media.video is not None
    assert media.bundle == BundleAgreement(OWN.credentials, "EsAw", Fingerprint("sha-256", DIGEST))
    assert (media.audio.codec, media.audio.payload_type, media.audio.direction) == ("opus", 111, "sendrecv")
    assert media.audio.telephone_event == 126
    assert (media.video.payload_type, media.video.rtx_payload_type, media.video.direction) == (
        103,
        104,
        "sendonly",
    )
    assert media.video.feedback == {"nack", "nack pli", "ccm fir"}
    assert "a=group:BUNDLE 0 1" in lines
    assert "a=ice-lite" in lines
    head, audio = lines[: lines.index("m=audio 4000 UDP/TLS/RTP/SAVPF 111 126")], lines[: len(lines)]
    assert "a=ice-lite" in head
    voice, picture = "\n".join(audio).split("m=")[1:]
    for section, kind in ((voice, "audio"), (picture, "video")):
        for line in (
            "a=ice-ufrag:ourufrag",
            "a=ice-pwd:ourpassword0123456789ab",
            f"a=fingerprint:sha-256 {':'.join(['CD'] * 32)}",
            "a=setup:passive",
            "a=rtcp-mux",
            f"a=msid:visavis {kind}",
        ):
            assert line in section, (kind, line)
    assert "a=candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host" in voice
    assert "127.0.0.1 8080 typ host tcptype passive" in voice
    assert "a=candidate" not in picture
    assert picture.startswith("video 4000 UDP/TLS/RTP/SAVPF 103 104")
    assert "a=sendonly" in picture


def test_a_stream_that_is_only_bundled_has_no_port() -> None:
    offer = OFFER.replace("m=video 9", "m=video 0").replace("a=mid:1", "a=mid:1\r\na=bundle-only")
    session, lines = answer(offer)
    assert session.media is not None
    assert session.media.video is not None
    assert any(line.startswith("m=video 4000") for line in lines)


def test_a_picture_outside_the_bundle_is_refused_and_the_voice_taken() -> None:
    session, lines = answer(OFFER.replace("BUNDLE 0 1", "BUNDLE 0"))
    assert session.media is not None
    assert session.media.video is None
    assert session.media.audio is not None
    assert any(line.startswith("m=video 0 ") for line in lines)
    assert "a=group:BUNDLE 0" in lines


def test_hold_is_what_the_direction_says_and_not_the_address() -> None:
    session, lines = answer(OFFER.replace("a=sendrecv", "a=inactive", 1))
    assert session.media is not None
    assert session.media.audio is not None
    assert session.media.audio.direction == "inactive"
    assert session.media.audio.remote == ("0.0.0.0", 9)
    assert "a=inactive" in lines


def test_addresses_of_gathered_candidates_are_not_looked_at() -> None:
    gathered = OFFER.replace("c=IN IP4 0.0.0.0", "c=IN IP6 fe80::1").replace("m=audio 9", "m=audio 50000")
    session, _ = answer(gathered)
    assert session.media is not None
    assert session.media.audio is not None
    assert session.media.audio.remote == ("0.0.0.0", 9)


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("a=ice-ufrag:EsAw\r\n", "", "ICE"),
        (f"a=fingerprint:sha-256 {DIGEST}", "a=fingerprint:md5 AB:CD", "fingerprint"),
        ("a=setup:actpass", "a=setup:passive", "DTLS server"),
        ("a=rtcp-mux\r\n", "", "rtcp-mux"),
        ("UDP/TLS/RTP/SAVPF", "RTP/AVP", "DTLS-SRTP"),
        ("UDP/TLS/RTP/SAVPF", "RTP/SAVPF", "DTLS-SRTP"),
    ],
)
def test_what_is_no_bundle_is_refused_with_a_sentence(old: str, new: str, why: str) -> None:
    with pytest.raises(NotAcceptable, match=why):
        SdpSession().answer(OFFER.replace(old, new), WEB)


def test_a_phone_is_not_offered_dtls_and_its_offer_of_it_is_refused() -> None:
    phones = MediaCapabilities("192.0.2.1", AudioCapabilities(4000), VideoCapabilities(4002))
    with pytest.raises(NotAcceptable, match="unsupported transport"):
        SdpSession().answer(OFFER, phones)


def test_priorities_of_candidates() -> None:
    assert candidate(1, "udp", "::1", 5, 65535).split()[3] == str((126 << 24) | (65535 << 8) | 255)
    udp, tcp = (int(candidate(1, kind, "h", 1, 0).split()[3]) for kind in ("udp", "tcp"))
    assert udp > tcp
