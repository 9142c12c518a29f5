"""Offer/answer (RFC 3264): what we answer to what phones offer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.sip.sdp.capabilities import (
    MediaCapabilities,
    NotAcceptable,
    VideoCapabilities,
)
from orchestrator.sip.sdp.description import Format, SdpError, parse_sdp
from orchestrator.sip.sdp.h264 import read_format
from orchestrator.sip.sdp.session import SdpSession
from tests.support.sip_fake import AUDIO, VIDEO, capabilities, sdp

OPUS_96 = "m=audio 7000 RTP/AVP 96 0\na=rtpmap:96 opus/48000/2\n"


def answer(offer: str, caps: MediaCapabilities | None = None) -> tuple[list[str], SdpSession]:
    session = SdpSession(session_id=5)
    text = session.answer(offer, caps or capabilities())
    return text.split("\r\n"), session


def m_lines(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("m=")]


def test_audio_and_video() -> None:
    lines, session = answer(sdp(AUDIO, VIDEO))
    assert m_lines(lines) == ["m=audio 4000 RTP/AVP 0 101", "m=video 4002 RTP/AVP 96"]
    assert "a=rtpmap:101 telephone-event/8000" in lines
    assert "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1" in lines
    assert "a=rtcp-fb:* nack pli" in lines
    assert lines[1] == "o=visavis 5 5 IN IP4 127.0.0.1"
    assert session.media is not None
    audio, video = session.media.audio, session.media.video
    assert audio is not None and video is not None
    assert (audio.codec, audio.payload_type, audio.telephone_event) == ("PCMU", 0, 101)
    assert (audio.remote, audio.remote_rtcp) == (("127.0.0.9", 6000), ("127.0.0.9", 6001))
    assert audio.sends and audio.direction == "sendrecv"
    assert (video.packetization_mode, video.profile_level_id, video.feedback) == (1, "42e01f", {"nack pli"})


def test_mode_1_is_preferred_wherever_it_stands() -> None:
    offer = sdp(
        AUDIO,
        "m=video 6002 RTP/AVP 96 97\na=rtpmap:96 H264/90000\n"
        "a=fmtp:96 packetization-mode=0;profile-level-id=42e01f\n"
        "a=rtpmap:97 H264/90000\na=fmtp:97 packetization-mode=1;profile-level-id=42e01f\n",
    )
    lines, _ = answer(offer)
    assert m_lines(lines)[1] == "m=video 4002 RTP/AVP 97"
    only_zero = offer.replace("packetization-mode=1", "packetization-mode=0")
    assert m_lines(answer(only_zero)[0])[1] == "m=video 4002 RTP/AVP 96"


def test_baseline_is_preferred_and_high_still_taken() -> None:
    high = "m=video 6002 RTP/AVP 96 97\na=rtpmap:96 H264/90000\n"
    high += "a=fmtp:96 profile-level-id=640028;packetization-mode=1\n"
    both = high + "a=rtpmap:97 H264/90000\na=fmtp:97 profile-level-id=42801e\n"
    assert m_lines(answer(sdp(AUDIO, both))[0])[1].endswith(" 97")
    lines, session = answer(sdp(AUDIO, high))
    assert "a=fmtp:96 profile-level-id=640028;packetization-mode=1" in lines
    assert session.media and session.media.video and session.media.video.profile_level_id == "640028"


def test_no_fmtp_means_mode_0_and_level_1() -> None:
    _, session = answer(sdp(AUDIO, "m=video 6002 RTP/AVP 99\na=rtpmap:99 H264/90000\n"))
    assert session.media is not None and session.media.video is not None
    video = session.media.video
    assert (video.packetization_mode, video.profile_level_id) == (0, "42000a")
    assert (video.width, video.height) == (144, 144) and video.fps < 25
    assert (video.width % 2, video.height % 2) == (0, 0)


def test_opus_by_name_with_the_offered_payload_type() -> None:
    lines, session = answer(sdp(OPUS_96))
    assert m_lines(lines) == ["m=audio 4000 RTP/AVP 96"]
    assert "a=rtpmap:96 opus/48000/2" in lines
    assert session.media and session.media.audio and session.media.audio.codec == "opus"


def test_opus_without_its_two_channels_is_not_opus() -> None:
    lines, _ = answer(sdp("m=audio 7000 RTP/AVP 96 8\na=rtpmap:96 opus/48000\n"))
    assert m_lines(lines) == ["m=audio 4000 RTP/AVP 8"]


def test_telephone_event_follows_the_clock_rate() -> None:
    offer = sdp(
        "m=audio 7000 RTP/AVP 96 101 102\na=rtpmap:96 opus/48000/2\n"
        "a=rtpmap:101 telephone-event/8000\na=rtpmap:102 telephone-event/48000\n"
    )
    assert m_lines(answer(offer)[0]) == ["m=audio 4000 RTP/AVP 96 102"]
    with pytest.raises(NotAcceptable, match="none of the offered audio codecs"):
        answer(sdp("m=audio 7000 RTP/AVP 18 101\na=rtpmap:101 telephone-event/8000\n"))


@pytest.mark.parametrize(
    ("offered", "chosen"), [("0 8 9", 0), ("8 0 9", 8), ("18 3 9 0", 9), ("0 96", 0), ("96 0", 96)]
)
def test_the_offerers_order_of_codecs_decides(offered: str, chosen: int) -> None:
    opus = "a=rtpmap:96 opus/48000/2\n" if "96" in offered else ""
    lines, session = answer(sdp(f"m=audio 7000 RTP/AVP {offered}\n{opus}"))
    assert m_lines(lines) == [f"m=audio 4000 RTP/AVP {chosen}"]
    assert session.media and session.media.audio and session.media.audio.payload_type == chosen


def test_a_codec_is_named_as_the_peer_names_it() -> None:
    lines, session = answer(sdp("m=audio 7000 RTP/AVP 97\na=rtpmap:97 OPUS/48000/2\n"))
    assert "a=rtpmap:97 OPUS/48000/2" in lines and "a=fmtp:97 useinbandfec=1" in lines
    assert session.media and session.media.audio and session.media.audio.codec == "opus"


@pytest.mark.parametrize(
    ("lines", "packet_ms"),
    [
        ("", 20), ("a=maxptime:150\n", 20), ("a=maxptime:20\n", 20), ("a=maxptime:19\n", 10),
        ("a=maxptime:10\n", 10), ("a=maxptime:9.5\n", 5), ("a=maxptime:1\n", 5), ("a=maxptime:0\n", 20),
        ("a=maxptime:no\n", 20), ("a=ptime:10\n", 20), ("a=ptime:40\na=maxptime:40\n", 20),
    ],
)  # fmt: skip
def test_packets_are_no_longer_than_the_peer_takes(lines: str, packet_ms: int) -> None:
    _, session = answer(sdp(AUDIO + lines))
    assert session.media and session.media.audio and session.media.audio.packet_ms == packet_ms


def test_every_m_line_is_mirrored() -> None:
    offer = sdp(
        "m=application 9 UDP/BFCP *\n",
        AUDIO,
        "m=audio 6100 RTP/AVP 0\n",
        "m=video 0 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        VIDEO,
        "m=image 6200 udptl t38\n",
    )
    assert m_lines(answer(offer)[0]) == [
        "m=application 0 UDP/BFCP *",
        "m=audio 4000 RTP/AVP 0 101",
        "m=audio 0 RTP/AVP 0",
        "m=video 0 RTP/AVP 96",
        "m=video 4002 RTP/AVP 96",
        "m=image 0 udptl t38",
    ]


def test_declined_audio_leaves_the_video_of_a_call_that_has_no_voice_here() -> None:
    lines, session = answer(sdp("m=audio 0 RTP/AVP 0\n", VIDEO), replace(capabilities(), audio=None))
    assert m_lines(lines) == ["m=audio 0 RTP/AVP 0", "m=video 4002 RTP/AVP 96"]
    assert session.media and session.media.audio is None


def test_video_only_unknown_is_a_voice_call() -> None:
    lines, session = answer(sdp(AUDIO, "m=video 6002 RTP/AVP 34\n"))
    assert m_lines(lines)[1] == "m=video 0 RTP/AVP 34"
    assert session.media and session.media.video is None


@pytest.mark.parametrize(
    ("attribute", "expected", "sends"),
    [
        ("sendrecv", "sendrecv", True),
        ("sendonly", "recvonly", False),
        ("recvonly", "sendonly", True),
        ("inactive", "inactive", False),
    ],
)
def test_directions(attribute: str, expected: str, sends: bool) -> None:
    lines, session = answer(sdp(AUDIO + f"a={attribute}\n"))
    assert f"a={expected}" in lines
    assert session.media and session.media.audio
    assert (session.media.audio.direction, session.media.audio.sends) == (expected, sends)
    assert session.media.on_hold == (not sends)


def test_direction_of_the_session_applies() -> None:
    lines, _ = answer(sdp(AUDIO, session="a=inactive\n"))
    assert "a=inactive" in lines


def test_hold_by_null_address() -> None:
    _, session = answer(sdp(AUDIO, VIDEO, address="0.0.0.0"))
    assert session.media is not None and session.media.on_hold


def test_origin_version_moves_only_with_a_change() -> None:
    session = SdpSession(session_id=5)
    first = session.answer(sdp(AUDIO, VIDEO), capabilities())
    same = session.answer(sdp(AUDIO, VIDEO, version=2), capabilities())
    assert same == first
    held = session.answer(sdp(AUDIO + "a=sendonly\n", VIDEO + "a=sendonly\n", version=3), capabilities())
    assert "o=visavis 5 6 IN IP4" in held
    resumed = session.answer(sdp(AUDIO, VIDEO, version=4), capabilities())
    assert "o=visavis 5 7 IN IP4" in resumed


def test_rtcp_mux_and_rtcp_attribute() -> None:
    lines, session = answer(sdp(AUDIO + "a=rtcp-mux\n"))
    assert "a=rtcp-mux" in lines
    assert session.media and session.media.audio and session.media.audio.remote_rtcp[1] == 6000
    lines, session = answer(sdp(AUDIO + "a=rtcp:6101 IN IP4 127.0.0.10\n"))
    assert "a=rtcp-mux" not in lines
    assert session.media and session.media.audio
    assert session.media.audio.remote_rtcp == ("127.0.0.10", 6101)


def test_feedback_is_echoed_in_the_form_offered() -> None:
    video = VIDEO.replace(
        "a=rtcp-fb:* nack pli\n", "a=rtcp-fb:96 ccm fir\na=rtcp-fb:96 nack\na=rtcp-fb:96 goog-remb\n"
    )
    lines, session = answer(sdp(AUDIO, video).replace("RTP/AVP 96", "RTP/AVPF 96"))
    assert [line for line in lines if "rtcp-fb" in line] == ["a=rtcp-fb:96 ccm fir", "a=rtcp-fb:96 nack"]
    assert m_lines(lines)[1] == "m=video 4002 RTP/AVPF 96"
    assert session.media and session.media.video and session.media.video.feedback == {"ccm fir", "nack"}


def test_bandwidth_limits_the_encoder() -> None:
    for line, expected in (("b=AS:256\n", 243_200), ("b=TIAS:200000\n", 200_000), ("", 1_000_000)):
        head, _, rest = VIDEO.partition("\n")
        _, session = answer(sdp(AUDIO, f"{head}\n{line}{rest}"))
        assert session.media and session.media.video and session.media.video.bitrate == expected
    _, session = answer(sdp(AUDIO, VIDEO, session="b=AS:384\n"))
    assert session.media and session.media.video and session.media.video.bitrate == 304 * 950


@pytest.mark.parametrize(
    ("level", "size", "expected"),
    [
        ("1f", (512, 512), (512, 512, 25)),
        ("1e", (640, 480), (640, 480, 25)),
        ("1f", (1280, 720), (1280, 720, 25)),
    ],
)
def test_pictures_within_the_level_are_kept(
    level: str, size: tuple[int, int], expected: tuple[int, int, int]
) -> None:
    caps = replace(capabilities(), video=VideoCapabilities(4002, *size))
    _, session = answer(sdp(AUDIO, VIDEO.replace("42e01f", f"42e0{level}")), caps)
    assert session.media and session.media.video
    assert (session.media.video.width, session.media.video.height, session.media.video.fps) == expected


@given(
    level=st.sampled_from([9, 10, 11, 12, 13, 20, 21, 22, 30, 31, 40]),
    width=st.integers(64, 1920),
    height=st.integers(64, 1080),
    fps=st.sampled_from([15.0, 25.0, 30.0]),
)
def test_the_picture_always_fits_the_level(level: int, width: int, height: int, fps: float) -> None:
    found = read_format(Format(96, "H264", 90000, 1, f"profile-level-id=4200{level:02x}"))
    assert found is not None
    w, h, rate = found.fit(width, height, fps)
    assert found.level.allows(w, h, rate)
    assert rate <= fps and w <= width + 1 and h <= height + 1


def test_level_1b_and_max_fs() -> None:
    one_b = read_format(Format(96, "H264", 90000, 1, "profile-level-id=42f00b"))
    assert one_b is not None and one_b.level.max_bitrate == 128_000
    big = read_format(Format(96, "H264", 90000, 1, "profile-level-id=42e00d;max-fs=3600;max-mbps=108000"))
    assert big is not None and big.level.allows(1280, 720, 25)


def test_srtp_is_refused_unless_enabled() -> None:
    key = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz"
    secure = AUDIO.replace("RTP/AVP", "RTP/SAVP") + f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{key}|2^20\n"
    with pytest.raises(NotAcceptable, match="SRTP"):
        answer(sdp(secure))
    lines, session = answer(sdp(secure), replace(capabilities(), srtp="optional"))
    assert m_lines(lines) == ["m=audio 4000 RTP/SAVP 0 101"]
    assert session.media and session.media.audio and session.media.audio.keys
    keys = session.media.audio.keys
    assert (len(keys.local_key), len(keys.remote_key)) == (30, 30)
    assert keys.local_key != keys.remote_key
    assert any(line.startswith("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:") for line in lines)
    again = session.answer(sdp(secure), replace(capabilities(), srtp="optional"))
    assert again.split("\r\n") == lines
    with pytest.raises(NotAcceptable):
        answer(sdp(AUDIO), replace(capabilities(), srtp="required"))
    with pytest.raises(NotAcceptable):
        answer(sdp(AUDIO.replace("RTP/AVP", "RTP/SAVP")), replace(capabilities(), srtp="optional"))
    with pytest.raises(NotAcceptable, match="transport"):
        answer(sdp(AUDIO.replace("RTP/AVP", "UDP/TLS/RTP/SAVPF")))


def test_offer_and_its_answer() -> None:
    session = SdpSession()
    offer = parse_sdp(session.offer(capabilities()))
    assert [media.kind for media in offer.media] == ["audio", "video"]
    assert [f.name for f in offer.media[0].codecs()] == [
        "opus",
        "G722",
        "PCMU",
        "PCMA",
        *["telephone-event"] * 2,
    ]
    assert [f.parameters["packetization-mode"] for f in offer.media[1].codecs()] == ["1", "0"]
    media = session.accept(
        sdp(
            "m=audio 6000 RTP/AVP 8 101\na=rtpmap:101 telephone-event/8000\n",
            "m=video 6002 RTP/AVP 98\na=rtpmap:98 H264/90000\na=fmtp:98 profile-level-id=42e01e\n",
        )
    )
    assert media.audio and media.audio.codec == "PCMA" and media.audio.telephone_event == 101
    assert media.video and (media.video.packetization_mode, media.video.payload_type) == (0, 98)
    assert not session.offer_pending


def test_our_offer_of_rtx_and_its_answer() -> None:
    own = capabilities()
    assert own.video
    session = SdpSession()
    offer = parse_sdp(session.offer(replace(own, video=replace(own.video, rtx=True))))
    rtx = offer.media[1].codecs()[-1]
    assert (rtx.payload_type, rtx.name, rtx.parameters) == (99, "rtx", {"apt": "97"})
    media = session.accept(
        sdp(
            "m=audio 6000 RTP/AVP 0\n",
            "m=video 6002 RTP/AVPF 97 99\na=rtpmap:97 H264/90000\na=fmtp:97 packetization-mode=1\n"
            "a=rtpmap:99 rtx/90000\na=fmtp:99 apt=97\na=rtcp-fb:97 nack\n",
        )
    )
    assert media.video and (media.video.payload_type, media.video.rtx_payload_type) == (97, 99)


def test_the_numbers_of_our_offer_are_remembered_where_the_answer_has_others() -> None:
    session = SdpSession()
    session.offer(capabilities())
    media = session.accept(
        sdp(
            "m=audio 6000 RTP/AVP 96 97\na=rtpmap:96 opus/48000/2\na=rtpmap:97 telephone-event/48000\n",
            "m=video 0 RTP/AVP 98\n",
        )
    )
    assert media.audio and (media.audio.payload_type, media.audio.telephone_event) == (96, 97)
    assert {(111, "opus", 48_000), (101, "telephone-event", 8000), (110, "telephone-event", 48_000)} <= set(
        media.audio.offered
    )
    session.answer(sdp(AUDIO), capabilities())
    assert session.media and session.media.audio and session.media.audio.offered == ()


def test_an_answer_that_refuses_everything() -> None:
    session = SdpSession()
    session.offer(capabilities())
    with pytest.raises(NotAcceptable):
        session.accept(sdp("m=audio 0 RTP/AVP 0\n", "m=video 0 RTP/AVP 97\n"))


def test_our_reoffer_keeps_the_order_of_m_lines() -> None:
    session = SdpSession()
    session.answer(sdp(VIDEO, "m=image 6200 udptl t38\n", AUDIO), capabilities())
    offer = session.offer(replace(capabilities(), hold=True))
    assert [line.split(" ")[0] for line in offer.split("\r\n") if line.startswith("m=")] == [
        "m=video",
        "m=image",
        "m=audio",
    ]
    assert "m=image 0 udptl t38" in offer
    assert offer.count("a=sendonly") == 2


def test_offered_ipv6() -> None:
    offer = sdp(AUDIO).replace("IN IP4 127.0.0.9", "IN IP6 ::1")
    lines, session = answer(offer, replace(capabilities(), address="::1"))
    assert "c=IN IP6 ::1" in lines
    assert session.media and session.media.audio and session.media.audio.remote == ("::1", 6000)


@pytest.mark.parametrize(
    "text",
    ["", "hello", "v=1\r\n", "v=0\r\nm=audio\r\n", "v=0\r\nm=audio 70000 RTP/AVP 0\r\n",
     "v=0\r\nm=audio -1 RTP/AVP 0\r\n",
     "v=0\r\n" + "m=audio 1 RTP/AVP 0\r\n" * 40],
)  # fmt: skip
def test_broken_descriptions(text: str) -> None:
    with pytest.raises(SdpError):
        parse_sdp(text)


_LINES = st.sampled_from(
    ["v=0", "o=- 1 1 IN IP4 1.2.3.4", "c=IN IP4 127.0.0.1", "c=IN IP6 ::1", "m=audio 6000 RTP/AVP 0 96 101",
     "m=video 6002 RTP/AVPF 97 98", "m=video 1 RTP/SAVP 97", "a=rtpmap:96 opus/48000/2", "a=rtpmap:97 H264/90000",
     "a=fmtp:97 profile-level-id=42e01f;packetization-mode=1", "a=fmtp:97 profile-level-id=zz;max-fs=9" + "9" * 30,
     "a=rtcp-fb:* nack pli", "a=rtcp:99999999", "a=rtcp:1 IN IP4", "a=sendonly", "a=inactive", "b=AS:-1",
     "b=TIAS:1",
     "a=ptime:x", "a=ptime:20", "a=maxptime:5", "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:####",
     "a=rtpmap:101 telephone-event/8000", "a=rtpmap:999 x/1", "a=rtpmap:", "a=", "=", "m=", "a=rtcp-mux"]
)  # fmt: skip


@given(st.lists(st.one_of(_LINES, st.text(max_size=40)), max_size=25))
@settings(max_examples=150)
def test_any_description_is_answered_or_refused(lines: list[str]) -> None:
    session = SdpSession()
    caps = replace(capabilities(), srtp="optional")
    try:
        text = session.answer("\r\n".join(lines), caps)
    except (SdpError, NotAcceptable):
        return
    again = parse_sdp(text)
    assert session.media is not None
    assert len(again.media) == sum(
        line.startswith("m=") for line in lines if "\n" not in line and "\r" not in line
    )


@pytest.mark.parametrize(
    ("session", "media", "wanted"),
    [
        ("", "a=rtcp-xr:stat-summary=loss VOIP-metrics\n", True),
        ("a=rtcp-xr:voip-metrics\n", "", True),
        ("a=rtcp-xr:voip-metrics\n", "a=rtcp-xr:rcvr-rtt=all\n", False),  # the media's own line stands
        ("", "a=rtcp-xr:x-voip-metrics\n", False),
        ("", "a=rtcp-xr\n", False),
        ("", "", False),
    ],
)
def test_voip_metrics_only_for_those_who_ask(session: str, media: str, wanted: bool) -> None:
    own = SdpSession()
    text = own.answer(sdp(AUDIO + media, session=session), capabilities(video=False))
    assert own.media and own.media.audio and own.media.audio.voip_metrics is wanted
    assert ("a=rtcp-xr:voip-metrics" in text) is wanted
