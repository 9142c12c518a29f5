"""Descriptions that phones write otherwise than the RFCs say: understood wherever that is without danger."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from orchestrator.rtp.agreed import AudioMedia, VideoMedia
from orchestrator.sip.sdp.capabilities import (
    AudioCapabilities,
    MediaCapabilities,
    NegotiatedMedia,
    NotAcceptable,
)
from orchestrator.sip.sdp.session import SdpSession
from tests.support.sip_fake import AUDIO, VIDEO, capabilities, sdp


def agree(*media: str, own: MediaCapabilities | None = None) -> tuple[NegotiatedMedia, list[str]]:
    """What is agreed where a phone offers this, and the lines of our answer."""
    session = SdpSession()
    text = session.answer(sdp(*media), own or capabilities())
    assert session.media is not None
    return session.media, text.split("\r\n")


def voice(media: NegotiatedMedia) -> AudioMedia:
    assert media.audio is not None
    return media.audio


def picture(media: NegotiatedMedia) -> VideoMedia:
    assert media.video is not None
    return media.video


def video(fmtp: str) -> str:
    return f"m=video 6002 RTP/AVP 96\na=rtpmap:96 H264/90000\na=fmtp:96 {fmtp}\n"


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("4280D", "42800d"),
        ("0x42e01f", "42e01f"),
        ('"42e01f"', "42e01f"),
        ("'42e01f'", "42e01f"),
        ("42e01f00", "42e01f"),
        ("42e0", "42e00a"),
        ("none", "42000a"),
        ("", "42000a"),
    ],
)
def test_a_profile_level_id_is_taken_as_far_as_it_can_be_read(written: str, read: str) -> None:
    media, lines = agree(AUDIO, video(f"profile-level-id={written};packetization-mode=1"))
    assert (picture(media).profile_level_id, picture(media).packetization_mode) == (read, 1)
    assert f"a=fmtp:96 profile-level-id={read};packetization-mode=1" in lines


def test_what_else_the_format_says_counts_beside_an_unreadable_profile_level_id() -> None:
    media, _ = agree(AUDIO, video("profile-level-id=4280D;max-fs=3840;max-mbps=108000;max-br=768"))
    assert (picture(media).width, picture(media).height, picture(media).bitrate) == (512, 512, 768_000)


@pytest.mark.parametrize(("written", "mode"), [('"1"', 1), ("x", 0), ("", 0)])
def test_an_unreadable_packetization_mode_is_mode_0(written: str, mode: int) -> None:
    media, _ = agree(AUDIO, video(f"packetization-mode={written};profile-level-id=42e01f"))
    assert picture(media).packetization_mode == mode


@pytest.mark.parametrize(
    ("line", "fps"),
    [
        ("a=framerate:10\n", 10),
        ("a=framerate: 12.5\n", 12.5),
        ("a=framerate:1\n", 5),
        ("a=framerate:60\n", 25),
        ("a=framerate:0\n", 25),
        ("a=framerate:fast\n", 25),
    ],
)
def test_no_more_frames_than_the_phone_wants(line: str, fps: float) -> None:
    media, _ = agree(AUDIO, VIDEO + line)
    assert picture(media).fps == Fraction(fps)


@pytest.mark.parametrize(
    ("offered", "codec", "answered"),
    [
        ("9\na=rtpmap:9 G722/16000\n", "G722", "a=rtpmap:9 G722/16000"),
        ("109\na=rtpmap:109 g722/16000/1\n", "G722", "a=rtpmap:109 g722/16000"),
        ("96\na=rtpmap:96 opus/48000\n", "opus", "a=rtpmap:96 opus/48000"),
        ("96\na=rtpmap:96 OPUS/48000/1\n", "opus", "a=rtpmap:96 OPUS/48000"),
    ],
)
def test_codecs_that_are_often_written_otherwise(offered: str, codec: str, answered: str) -> None:
    media, lines = agree(f"m=audio 6000 RTP/AVP {offered}")
    assert voice(media).codec == codec and answered in lines


def test_a_codec_written_as_it_is_registered_goes_first() -> None:
    media, _ = agree("m=audio 6000 RTP/AVP 96 97\na=rtpmap:96 opus/48000\na=rtpmap:97 opus/48000/2\n")
    assert voice(media).payload_type == 97


def test_comfort_noise_and_keys_go_by_the_clock_of_the_codec() -> None:
    own = replace(capabilities(), audio=AudioCapabilities(4000, comfort_noise=True))
    media, lines = agree(
        "m=audio 6000 RTP/AVP 9 13 101\na=rtpmap:9 G722/16000\na=rtpmap:101 telephone-event/8000\n", own=own
    )
    assert (voice(media).comfort_noise, voice(media).telephone_event_rate) == (13, 8000)
    assert "a=rtpmap:13 CN/8000" in lines


@pytest.mark.parametrize(
    "unused",
    [
        "m=video 0 RTP/AVP\n",
        "m=video 6002 RTP/AVP\n",
        "m=application 0 UDP/BFCP\n",
        "m=video 0 RTP/AVPF 103\nc=IN IP4 unused.invalid\n",
        "m=image 6002 udptl t38\nc=IN IP4 unused.invalid\n",
        "m=video 0 RTP/AVP 96\nc=IN IP4\n",
        "m=application 70000 UDP/BFCP *\n",
        "m=video 0 RTP/AVP 96\nc=IN IP4 224.0.0.1/127\n",
        "m=video 6002 RTP/AVP 96\nc=IN IP4 phone.example\na=rtpmap:96 H264/90000\n",
    ],
)
def test_a_stream_that_is_not_used_costs_no_other_one_anything(unused: str) -> None:
    media, lines = agree(AUDIO, unused)
    assert voice(media).remote == ("127.0.0.9", 6000) and media.video is None
    kind = unused.partition(" ")[0]
    (mirrored,) = [line for line in lines if line.startswith(f"{kind} ")]
    assert mirrored.split()[1] == "0" and len(mirrored.split()) >= 4

    session = SdpSession()
    session.offer(capabilities())
    assert voice(session.accept(sdp("m=audio 6000 RTP/AVP 0\n", unused))).codec == "PCMU"


def test_a_name_of_the_session_that_no_stream_goes_by() -> None:
    session = SdpSession()
    session.answer(sdp(AUDIO + "c=IN IP4 127.0.0.5\n", address="phone.example"), capabilities())
    assert session.media and voice(session.media).remote == ("127.0.0.5", 6000)


@pytest.mark.parametrize("offer", [sdp(AUDIO, address="phone.example"), sdp(AUDIO + "c=IN IP4\n")])
def test_a_voice_without_an_ip_address_is_not_acceptable(offer: str) -> None:
    with pytest.raises(NotAcceptable, match="no IP address"):
        SdpSession().answer(offer, capabilities())


@pytest.mark.parametrize(
    ("line", "origin"),
    [
        ("o=My Phone 17 4 IN IP4 127.0.0.1", ("17", "4")),
        ("o=- 1001 2 IN", ("1001", "2")),
        ("o=- 1001 2 IN IP4", ("1001", "2")),
        ("o=- 1001 2", ("1001", "2")),
        ("o=Anna M. Smith 5 6 in IP6 ::1", ("5", "6")),
        ("o=x", ("0", "0")),
        ("o=", ("0", "0")),
    ],
)
def test_origins_that_lack_something_or_have_blanks_in_the_name(line: str, origin: tuple[str, str]) -> None:
    session = SdpSession()
    session.answer(sdp(AUDIO).replace("o=- 7 1 IN IP4 127.0.0.9", line), capabilities())
    assert session.media and session.media.audio and session.media.remote_session == origin


@pytest.mark.parametrize(
    "lines",
    [
        (AUDIO,),
        (AUDIO, VIDEO.replace(" 96", " 97").replace(":96", ":97"), "m=image 6100 udptl t38\n"),
        (VIDEO.replace(" 96", " 97").replace(":96", ":97"), AUDIO),
    ],
)
def test_an_answer_with_too_few_or_too_many_m_lines_or_in_another_order(lines: tuple[str, ...]) -> None:
    session = SdpSession()
    session.offer(capabilities())
    media = session.accept(sdp(*lines))
    assert voice(media).remote == ("127.0.0.9", 6000)
    assert (media.video is not None) is (len(lines) > 1)


def test_a_stream_of_the_peer_s_without_formats_is_refused_in_our_own_offers_too() -> None:
    session = SdpSession()
    session.answer(sdp(AUDIO, "m=application 0 UDP/BFCP\n"), capabilities())
    assert "m=application 0 UDP/BFCP 0\r\n" in session.offer(capabilities())


def test_a_picture_without_usable_keys_in_an_answer_leaves_the_voice() -> None:
    session = SdpSession()
    own = replace(capabilities(), srtp="required")
    session.offer(own)
    key = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40 + "\n"
    media = session.accept(
        sdp("m=audio 6000 RTP/SAVP 0\n" + key, "m=video 6002 RTP/SAVP 97\na=rtpmap:97 H264/90000\n")
    )
    assert voice(media).keys and media.video is None


@pytest.mark.parametrize("name", ["phone.example", "192.0.2.256", "-"])
def test_of_an_rtcp_name_only_the_port_counts(name: str) -> None:
    media, _ = agree(AUDIO + f"a=rtcp:6101 IN IP4 {name}\n", VIDEO)
    assert voice(media).remote_rtcp == ("127.0.0.9", 6101) and media.video is not None


def second(media: str, number: int = 6010) -> str:
    """The same stream at another port."""
    return media.replace("6000", str(number)).replace("6002", str(number))


@pytest.mark.parametrize(
    ("first", "other"),
    [
        ("slides", "main"),
        ("slides", ""),
        ("slides", "speaker"),
        ("slides", "alt"),
        ("sl", "main"),
        ("Slides,alt", "speaker,MAIN"),
        ("alt", ""),
    ],
)
def test_the_face_goes_to_the_main_video(first: str, other: str) -> None:
    content = f"a=content:{other}\n" if other else ""
    for offer in ((second(VIDEO) + f"a=content:{first}\n", VIDEO + content),
                  (VIDEO + content, second(VIDEO) + f"a=content:{first}\n")):  # fmt: skip
        media, lines = agree(AUDIO, *offer)
        assert picture(media).remote == ("127.0.0.9", 6002)
        ports = [line.split()[1] for line in lines if line.startswith("m=video")]
        assert sorted(ports) == ["0", "4002"] and (ports[0] == "0") is (offer[0] != VIDEO + content)


def test_the_voice_goes_to_the_main_audio() -> None:
    media, _ = agree(second(AUDIO) + "a=content:sl\n", AUDIO + "a=content:main\n")
    assert voice(media).remote == ("127.0.0.9", 6000)


def test_slides_are_better_than_no_video_and_than_one_that_cannot_be_used() -> None:
    slides = second(VIDEO) + "a=content:slides\n"
    for others in ((), ("m=video 6002 RTP/AVP 34\na=content:main\n",), ("m=video 0 RTP/AVP 96\n",)):
        media, _ = agree(AUDIO, slides, *others)
        assert picture(media).remote == ("127.0.0.9", 6010)


def test_our_own_offer_leaves_the_slides_refused() -> None:
    session = SdpSession()
    session.answer(sdp(AUDIO, second(VIDEO) + "a=content:slides\n", VIDEO), capabilities())
    lines = session.offer(replace(capabilities(), hold=True)).split("\r\n")
    assert [line.split()[1] for line in lines if line.startswith("m=")] == ["4000", "0", "4002"]
    session.accept(sdp(AUDIO, "m=video 0 RTP/AVP 96\n", VIDEO.replace(" 96", " 97").replace(":96", ":97")))
    assert session.media and picture(session.media).remote == ("127.0.0.9", 6002)


KEY = "AES_CM_128_HMAC_SHA1_80 inline:" + "A" * 40


@pytest.mark.parametrize(
    ("identifier", "mki", "answered"),
    [
        ("|2^31|1:1", b"\x01", "|2^31|1:1"),
        ("|1:4", b"\x00\x00\x00\x01", "|2^31|1:4"),
        ("|2^48|258:2;", b"\x01\x02", "|2^31|258:2"),
        ("|2^20", b"", ""),
    ],
)
def test_a_key_with_an_identifier(identifier: str, mki: bytes, answered: str) -> None:
    own = replace(capabilities(), srtp="optional")
    media, lines = agree(f"m=audio 6000 RTP/SAVP 0\na=crypto:2 {KEY}{identifier}\n", own=own)
    keys = voice(media).keys
    assert keys and (keys.local_mki, keys.remote_mki) == (mki, mki)
    (line,) = [line for line in lines if line.startswith("a=crypto:2 ")]
    assert line.partition("|")[1:] == ("|" if answered else "", answered[1:])


@pytest.mark.parametrize(
    "identifier",
    ["|2^31|256:1", "|1:0", "|1:17", "|x:1", "|1:1|2:1", f"|2^20|1:4;inline:{'B' * 40}|2^20|2:4"],
)
def test_an_identifier_that_does_not_fit_leaves_the_next_key(identifier: str) -> None:
    own = replace(capabilities(), srtp="optional")
    crypto = f"a=crypto:1 {KEY}{identifier}\na=crypto:2 {KEY}\n"
    media, lines = agree(f"m=audio 6000 RTP/SAVP 0\n{crypto}", own=own)
    keys = voice(media).keys
    assert keys and keys.remote_mki == b"" and any(line.startswith("a=crypto:2 ") for line in lines)
