"""What happens inside a call: late offers, hold, glare, UPDATE, INFO, PRACK, session timers."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.sip.call.call import Call
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.sdp.capabilities import NegotiatedMedia, NotAcceptable
from tests.support.sip_fake import (
    AUDIO,
    VIDEO,
    Recorder,
    Wire,
    capabilities,
    established,
    only,
    only_request,
    reply_to,
    request,
    sdp,
    settle,
    statuses,
)

OFFER = sdp(AUDIO, VIDEO)
HELD = sdp(AUDIO + "a=sendonly\n", VIDEO + "a=sendonly\n", version=2)


async def test_late_offer() -> None:
    wire = Wire()
    answer = only(await wire.put(request("INVITE")), 200)
    text = answer.body.decode()
    assert "m=audio 4000 RTP/AVP 111 9 0 8 101 110" in text and "m=video 4002" in text
    body = sdp("m=audio 6000 RTP/AVP 0\n", "m=video 0 RTP/AVP 97\n")
    await wire.put(request("ACK", branch="z9hG4bKack", to_tag=answer.to.tag or "", body=body))
    assert [name for name, _ in wire.handler.events] == ["invite", "media", "established"]
    media = wire.handler.media[0]
    assert media.audio and media.audio.codec == "PCMU" and media.video is None


@pytest.mark.parametrize(
    "body", ["", sdp("m=audio 0 RTP/AVP 0\n", "m=video 0 RTP/AVP 97\n"), "v=0\nrubbish=1\n"]
)
async def test_late_offer_without_a_usable_answer_ends_the_call(body: str) -> None:
    wire = Wire()
    answer = only(await wire.put(request("INVITE")), 200)
    replies = await wire.put(request("ACK", branch="z9hG4bKack", to_tag=answer.to.tag or "", body=body))
    assert only_request(replies, "BYE")
    assert wire.handler.cause.kind == "not_acceptable"


async def test_hold_resume_and_new_address() -> None:
    wire = Wire()
    tag = await established(wire)
    held = only(await wire.put(request("INVITE", branch="z9hG4bK2", seq=2, to_tag=tag, body=HELD)), 200)
    assert held.body.count(b"a=recvonly") == 2
    assert b"o=visavis" in held.body
    await wire.put(request("ACK", branch="z9hG4bK2a", seq=2, to_tag=tag))
    moved = sdp(AUDIO, VIDEO, version=3, address="127.0.0.77")
    await wire.put(request("INVITE", branch="z9hG4bK3", seq=3, to_tag=tag, body=moved))
    await wire.put(request("ACK", branch="z9hG4bK3a", seq=3, to_tag=tag))
    first, second = wire.handler.media
    assert first.on_hold and not second.on_hold
    assert second.audio and second.audio.remote == ("127.0.0.77", 6000)
    assert [name for name, _ in wire.handler.events].count("established") == 1


async def test_video_added_and_removed() -> None:
    wire = Wire()
    tag = await established(wire, body=sdp(AUDIO))
    added = only(await wire.put(request("INVITE", branch="z9hG4bK2", seq=2, to_tag=tag, body=OFFER)), 200)
    assert b"m=video 4002" in added.body
    await wire.put(request("ACK", branch="z9hG4bK2a", seq=2, to_tag=tag))
    gone = sdp(AUDIO, "m=video 0 RTP/AVP 96\n", version=3)
    removed = only(await wire.put(request("INVITE", branch="z9hG4bK3", seq=3, to_tag=tag, body=gone)), 200)
    assert b"m=video 0 RTP/AVP 96" in removed.body
    assert wire.handler.media[0].video and wire.handler.media[1].video is None


async def test_an_unusable_reoffer_leaves_the_call_as_it_was() -> None:
    wire = Wire()
    tag = await established(wire)
    bad = sdp("m=audio 6000 RTP/AVP 18\n", version=2)
    assert statuses(await wire.put(request("INVITE", branch="z9hG4bK2", seq=2, to_tag=tag, body=bad))) == [
        488
    ]
    call = wire.handler.calls[0]
    assert call.state == "established" and call.media and call.media.video


async def test_reinvite_without_an_offer_gets_ours() -> None:
    wire = Wire()
    tag = await established(wire, body=sdp(AUDIO))
    answer = only(await wire.put(request("INVITE", branch="z9hG4bK2", seq=2, to_tag=tag)), 200)
    assert b"m=audio 4000" in answer.body
    body = sdp("m=audio 6000 RTP/AVP 8\n", "m=video 0 RTP/AVP 97\n", version=2)
    await wire.put(request("ACK", branch="z9hG4bK2a", seq=2, to_tag=tag, body=body))
    media = wire.handler.media[0]
    assert media.audio and media.audio.codec == "PCMA"


async def test_a_second_reinvite_before_the_first_is_done() -> None:
    wire = Wire()
    tag = await established(wire)
    await wire.put(request("INVITE", branch="z9hG4bK2", seq=2, to_tag=tag, body=HELD))
    early = only(await wire.put(request("INVITE", branch="z9hG4bK3", seq=3, to_tag=tag, body=OFFER)), 500)
    assert early.headers.get("Retry-After")


async def test_our_hold_and_what_the_peer_answers() -> None:
    wire = Wire()
    await established(wire)
    call = wire.handler.calls[0]
    task = asyncio.ensure_future(call.reoffer(replace(capabilities(), hold=True)))
    await settle()
    sent = only_request(wire.take(), "INVITE")
    assert sent.body.count(b"a=sendonly") == 2
    body = sdp(
        "m=audio 6000 RTP/AVP 0\na=recvonly\n",
        "m=video 6002 RTP/AVP 97\na=rtpmap:97 H264/90000\na=recvonly\n",
    )
    replies = await wire.put(reply_to(sent, 200, body=body))
    ack = only_request(replies, "ACK")
    assert ack.cseq == (sent.cseq[0], "ACK")
    assert ack.via.branch != sent.via.branch
    media = await task
    assert isinstance(media, NegotiatedMedia) and media.audio and media.audio.direction == "sendonly"
    again = await wire.put(reply_to(sent, 200, body=body))
    assert only_request(again, "ACK").cseq == ack.cseq


async def test_glare_both_ways() -> None:
    wire = Wire()
    tag = await established(wire)
    call = wire.handler.calls[0]
    task = asyncio.ensure_future(call.reoffer(replace(capabilities(), hold=True)))
    await settle()
    first = only_request(wire.take(), "INVITE")
    theirs = request("INVITE", branch="z9hG4bK2", seq=2, to_tag=tag, body=HELD)
    assert statuses(await wire.put(theirs)) == [491]
    ack = only_request(await wire.put(reply_to(first, 491)), "ACK")
    assert ack.via.branch == first.via.branch
    later = only_request(await wire.pass_time(2.1), "INVITE")
    assert later.cseq[0] > first.cseq[0]
    await wire.put(reply_to(later, 488))
    with pytest.raises(NotAcceptable, match="488"):
        await task
    assert call.state == "established"


async def test_update() -> None:
    wire = Wire()
    tag = await established(wire)
    held = only(await wire.put(request("UPDATE", branch="z9hG4bK2", seq=2, to_tag=tag, body=HELD)), 200)
    assert held.body.count(b"a=recvonly") == 2
    assert wire.handler.media[0].on_hold
    plain = only(await wire.put(request("UPDATE", branch="z9hG4bK3", seq=3, to_tag=tag)), 200)
    assert plain.body == b""


async def test_info_asks_for_a_keyframe_and_carries_keys() -> None:
    wire = Wire()
    tag = await established(wire)
    xml = "<?xml version='1.0'?><media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder></vc_primitive></media_control>"  # noqa: E501
    bodies = [
        (xml, "application/media_control+xml"),
        ("Signal=5\nDuration=250\n", "application/dtmf-relay"),
        ("11", "application/dtmf"),
        ("Signal=zz\n", "application/dtmf-relay"),
    ]
    for number, (body, kind) in enumerate(bodies):
        info = request(
            "INFO", branch=f"z9hG4bKi{number}", seq=2 + number, to_tag=tag, body=body, content_type=kind
        )
        assert statuses(await wire.put(info)) == [200]
    assert wire.handler.events[2:] == [("keyframe", "anna"), ("dtmf", ("5", 250)), ("dtmf", ("#", 160))]
    other = request("INFO", branch="z9hG4bKx", seq=20, to_tag=tag, body="x", content_type="text/plain")
    assert "dtmf-relay" in (only(await wire.put(other), 415).headers.get("Accept") or "")


async def test_multipart_offer() -> None:
    wire = Wire()
    other, ours = "Content-Type: text/plain\r\n\r\nhi", f"Content-Type: application/sdp\r\n\r\n{OFFER}"
    body = f"--b1\r\n{other}\r\n--b1\r\n{ours}\r\n--b1--\r\n"
    invite = request("INVITE", body=body, content_type='multipart/mixed;boundary="b1"')
    assert b"m=audio 4000" in only(await wire.put(invite), 200).body


async def test_reliable_ringing() -> None:
    wire = Wire(Recorder(on_call=IncomingCall.ring))
    replies = await wire.put(request("INVITE", body=OFFER, headers="Require: 100rel"))
    ringing = only(replies, 180)
    assert "100rel" in ringing.headers.tokens("Require")
    assert statuses(await wire.pass_time(0.5)) == [180]
    tag = ringing.to.tag or ""
    wrong = request("PRACK", branch="z9hG4bKp0", seq=2, to_tag=tag, headers="RAck: 77 1 INVITE")
    assert statuses(await wire.put(wrong)) == [481]
    rack = f"RAck: {ringing.headers.get('RSeq')} 1 INVITE"
    assert statuses(await wire.put(request("PRACK", branch="z9hG4bKp", seq=3, to_tag=tag, headers=rack))) == [
        200
    ]
    assert await wire.pass_time(5) == []
    call = wire.handler.calls[0]
    assert isinstance(call, IncomingCall)
    call.answer(capabilities())
    assert statuses(wire.take()) == [200]


async def test_reliable_ringing_never_confirmed() -> None:
    wire = Wire(Recorder(on_call=IncomingCall.ring), SipConfig(ring_timeout=100))
    await wire.put(request("INVITE", body=OFFER, headers="Require: 100rel"))
    assert statuses(await wire.pass_time(33))[-1] == 504


async def test_session_timer_refused_when_too_small() -> None:
    wire = Wire()
    headers = "Supported: timer\nSession-Expires: 30"
    refused = only(await wire.put(request("INVITE", body=OFFER, headers=headers)), 422)
    assert refused.headers.get("Min-SE") == "90"


async def test_the_peer_refreshes_or_the_call_ends() -> None:
    wire = Wire()
    headers = "Supported: timer\nSession-Expires: 120;refresher=uac"
    answer = only(await wire.put(request("INVITE", body=OFFER, headers=headers)), 200)
    assert answer.headers.get("Session-Expires") == "120;refresher=uac"
    assert "timer" in answer.headers.tokens("Require")
    tag = answer.to.tag or ""
    await wire.put(request("ACK", branch="z9hG4bKack", to_tag=tag))
    assert await wire.pass_time(60) == []
    refreshed = await wire.put(request("UPDATE", branch="z9hG4bKu", seq=2, to_tag=tag, headers=headers))
    assert only(refreshed, 200).headers.get("Session-Expires") == "120;refresher=uac"
    assert await wire.pass_time(80) == []
    assert only_request(await wire.pass_time(10), "BYE")
    assert wire.handler.cause.kind == "session_expired"


async def test_we_refresh_at_half_time() -> None:
    wire = Wire()
    await established(wire, headers="Supported: timer\nSession-Expires: 120;refresher=uas")
    assert await wire.pass_time(59) == []
    refresh = only_request(await wire.pass_time(1.5), "INVITE")
    assert refresh.headers.get("Session-Expires") == "120;refresher=uac"
    assert b"m=audio 4000" in refresh.body
    answer = reply_to(refresh, 200, body=OFFER, headers="Session-Expires: 120;refresher=uac\nRequire: timer")
    assert only_request(await wire.put(answer), "ACK")
    assert await wire.pass_time(58) == []
    assert only_request(await wire.pass_time(3), "INVITE")


async def test_a_refresh_the_peer_does_not_know_ends_the_call() -> None:
    wire = Wire()
    await established(wire, headers="Supported: timer\nSession-Expires: 120;refresher=uas")
    refresh = only_request(await wire.pass_time(60), "INVITE")
    assert only_request(await wire.put(reply_to(refresh, 481)), "BYE")
    assert wire.handler.cause.kind == "session_expired"


async def test_a_call_without_contact_or_tags_of_rfc_2543() -> None:
    wire = Wire()
    old = request("INVITE", body=OFFER, branch="old", from_tag="x").replace(";tag=x", "")
    tag = only(await wire.put(old), 200).to.tag or ""
    bye = request("BYE", branch="old2", seq=2, to_tag=tag, from_tag="x").replace(";tag=x", "")
    await wire.put(request("ACK", branch="old", to_tag=tag, from_tag="x").replace(";tag=x", ""))
    assert statuses(await wire.put(bye)) == [200]


async def test_shutting_down_says_bye() -> None:
    wire = Wire()
    await established(wire)
    closing = asyncio.ensure_future(wire.agent.close())
    await settle()
    bye = only_request(wire.take(), "BYE")
    await wire.put(reply_to(bye, 200))
    await closing
    assert wire.clock.pending == 0


class Transferring(Recorder):
    async def on_transfer(self, call: Call, target: str) -> bool:
        self.events.append(("transfer", target))
        return target.endswith("@127.0.0.3")


@pytest.mark.parametrize(
    ("target", "status"), [("sip:bob@127.0.0.3", "200 OK"), ("sip:bob@1.2.3.4", "603 Decline")]
)
async def test_the_peer_asks_to_be_transferred(target: str, status: str) -> None:
    wire = Wire(Transferring())
    tag = await established(wire)
    refer = request("REFER", branch="z9hG4bKr", seq=2, to_tag=tag, headers=f"Refer-To: <{target}>")
    replies = await wire.put(refer)
    assert statuses(replies) == [202]
    notifies = [m for m in replies if isinstance(m, Request) and m.method == "NOTIFY"]
    assert [n.body for n in notifies] == [b"SIP/2.0 100 Trying\r\n", f"SIP/2.0 {status}\r\n".encode()]
    assert notifies[1].headers.get("Subscription-State") == "terminated;reason=noresource"
    assert notifies[0].cseq[0] < notifies[1].cseq[0]
    bad = request("REFER", branch="z9hG4bKs", seq=3, to_tag=tag, headers="Refer-To: <tel:1>")
    assert statuses(await wire.put(bad)) == [400]


async def test_attended_transfer_is_refused() -> None:
    """Refused at once, with the reason: a blind transfer in its place would leave two calls where one was."""
    wire = Wire(Transferring())
    tag = await established(wire)
    target = "Refer-To: <sip:bob@127.0.0.3?Replaces=c9%3Bto-tag%3D1%3Bfrom-tag%3D2>"
    (answer,) = await wire.put(request("REFER", branch="z9hG4bKr", seq=2, to_tag=tag, headers=target))
    assert isinstance(answer, Response) and answer.status == 488
    assert "attended transfer" in (answer.headers.get("Warning") or "")
    replaces = "Require: replaces\nReplaces: c1;to-tag=x;from-tag=y"
    invite = request("INVITE", branch="z9hG4bKi", call_id="c2", body=sdp(AUDIO), headers=replaces)
    refusal = only(await wire.put(invite), 420)
    assert refusal.headers.get("Unsupported") == "replaces"
    assert wire.handler.events[-1][0] == "established"


async def test_keys_by_info() -> None:
    wire = Wire()
    await established(wire)
    pressing = asyncio.ensure_future(wire.handler.calls[0].press("1#", 120))
    await settle()
    sent = wire.take()
    for digit in "1#":
        info = only_request(sent, "INFO")
        assert info.content_type() == "application/dtmf-relay"
        assert info.body == f"Signal={digit}\r\nDuration=120\r\n".encode()
        sent = await wire.put(reply_to(info, 200))
    await pressing
    pressing = asyncio.ensure_future(wire.handler.calls[0].press("2"))
    await settle()
    await wire.put(reply_to(only_request(wire.take(), "INFO"), 415))
    with pytest.raises(NotAcceptable, match="415"):
        await pressing


async def test_we_transfer_the_peer() -> None:
    wire = Wire()
    tag = await established(wire)
    call = wire.handler.calls[0]
    task = asyncio.ensure_future(call.transfer("sip:human@127.0.0.3"))
    await settle()
    refer = only_request(wire.take(), "REFER")
    assert refer.headers.get("Refer-To") == "<sip:human@127.0.0.3>"
    await wire.put(reply_to(refer, 202))
    for number, (fragment, state) in enumerate([("100 Trying", "active"), ("200 OK", "terminated")]):
        notify = request(
            "NOTIFY", branch=f"z9hG4bKn{number}", seq=2 + number, to_tag=tag, body=f"SIP/2.0 {fragment}\n",
            content_type="message/sipfrag", headers=f"Event: refer\nSubscription-State: {state}",
        )  # fmt: skip
        assert statuses(await wire.put(notify)) == [200]
    assert await task == 200
    late = request("NOTIFY", branch="z9hG4bKz", seq=9, to_tag=tag, headers="Event: refer")
    assert statuses(await wire.put(late)) == [481]
    other = request("NOTIFY", branch="z9hG4bKy", seq=10, to_tag=tag, headers="Event: presence")
    assert statuses(await wire.put(other)) == [489]


async def test_a_refused_transfer() -> None:
    wire = Wire()
    await established(wire)
    task = asyncio.ensure_future(wire.handler.calls[0].transfer("sip:human@127.0.0.3"))
    await settle()
    await wire.put(reply_to(only_request(wire.take(), "REFER"), 603))
    with pytest.raises(NotAcceptable, match="603"):
        await task
