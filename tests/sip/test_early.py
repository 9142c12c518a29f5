"""Offers before the final answer: reliable answers, UPDATE and PRACK in early dialogs (RFC 3262, RFC 3311)."""

from __future__ import annotations

import pytest

from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.call.outgoing import OutgoingCall
from orchestrator.sip.message.message import Request
from tests.sip.test_outgoing import dial
from tests.support.sip_fake import (
    AUDIO,
    VIDEO,
    Recorder,
    Wire,
    capabilities,
    only,
    only_request,
    reply_to,
    request,
    sdp,
    statuses,
)

OFFER = sdp(AUDIO, VIDEO)
HELD = sdp(AUDIO + "a=sendonly\n", VIDEO + "a=sendonly\n", version=2)
ANSWER = sdp("m=audio 6000 RTP/AVP 0\n", "m=video 0 RTP/AVP 97\n")
MOVED = sdp("m=audio 6100 RTP/AVP 0\n", "m=video 0 RTP/AVP 97\n", version=2)


def ring_with_media(call: IncomingCall) -> None:
    call.ring(183, capabilities())


async def ringing_early() -> tuple[Wire, IncomingCall, str, str]:
    """A call whose offer was answered in a reliable 183; our tag and the RAck header that confirms it."""
    wire = Wire(Recorder(on_call=ring_with_media))
    early = only(await wire.put(request("INVITE", body=OFFER, headers="Supported: 100rel")), 183)
    assert b"m=audio 4000" in early.body and "100rel" in early.headers.tokens("Require")
    call = wire.handler.calls[0]
    assert isinstance(call, IncomingCall) and call.media and call.media.video
    return wire, call, early.to.tag or "", f"RAck: {early.headers.get('RSeq')} 1 INVITE"


async def test_update_before_the_call_is_answered() -> None:
    wire, call, tag, rack = await ringing_early()
    too_soon = only(await wire.put(request("UPDATE", branch="z9hG4bK2", seq=2, to_tag=tag, body=HELD)), 500)
    assert too_soon.headers.get("Retry-After")
    prack = request("PRACK", branch="z9hG4bK3", seq=3, to_tag=tag, headers=rack)
    assert only(await wire.put(prack), 200).body == b""
    held = only(await wire.put(request("UPDATE", branch="z9hG4bK4", seq=4, to_tag=tag, body=HELD)), 200)
    assert held.body.count(b"a=recvonly") == 2 and call.state == "ringing"
    assert call.media and call.media.on_hold
    call.answer(capabilities())
    assert only(wire.take(), 200).body == b""
    await wire.put(request("ACK", branch="z9hG4bKack", to_tag=tag))
    assert call.state == "established" and call.media.on_hold


async def test_update_while_nothing_is_agreed() -> None:
    wire = Wire(Recorder(on_call=IncomingCall.ring))
    tag = only(await wire.put(request("INVITE", body=OFFER)), 180).to.tag or ""
    refused = only(await wire.put(request("UPDATE", branch="z9hG4bK2", seq=2, to_tag=tag, body=HELD)), 500)
    assert refused.headers.get("Retry-After")
    plain = only(await wire.put(request("UPDATE", branch="z9hG4bK3", seq=3, to_tag=tag)), 200)
    assert plain.body == b""


async def test_an_answer_waits_for_prack() -> None:
    wire, call, tag, rack = await ringing_early()
    call.answer(capabilities())
    assert wire.take() == [] and call.state == "ringing"
    replies = await wire.put(request("PRACK", branch="z9hG4bK2", seq=2, to_tag=tag, headers=rack))
    assert [(r.status, r.cseq[1]) for r in replies if not isinstance(r, Request)] == [
        (200, "PRACK"),
        (200, "INVITE"),
    ]


async def test_prack_with_a_new_offer() -> None:
    wire, call, tag, rack = await ringing_early()
    prack = request("PRACK", branch="z9hG4bK2", seq=2, to_tag=tag, headers=rack, body=HELD)
    assert only(await wire.put(prack), 200).body.count(b"a=recvonly") == 2
    assert call.media and call.media.on_hold


async def test_early_media_for_a_caller_that_knows_no_prack() -> None:
    wire = Wire(Recorder(on_call=ring_with_media))
    early = only(await wire.put(request("INVITE", body=OFFER)), 183)
    assert early.body == b"" and "RSeq" not in early.headers
    call = wire.handler.calls[0]
    assert isinstance(call, IncomingCall)
    call.answer(capabilities())
    assert b"m=audio 4000" in only(wire.take(), 200).body


async def test_a_call_that_ends_refuses_what_is_open() -> None:
    wire, call, tag, rack = await ringing_early()
    await wire.put(request("PRACK", branch="z9hG4bK2", seq=2, to_tag=tag, headers=rack))
    wire.agent.receive(
        request("UPDATE", branch="z9hG4bK3", seq=3, to_tag=tag, body=HELD).replace("\n", "\r\n").encode(),
        wire.flow,
    )
    call.reject(486)
    assert sorted(statuses(await wire.pass_time(0))) == [486, 487]


def from_callee(invite: Request, method: str, seq: int, body: str = "", tag: str = "peer") -> str:
    """A request of the callee's within the dialog that its 183 made."""
    return request(
        method, branch=f"z9hG4bKc{seq}{tag}", seq=seq, from_tag=tag, to_tag=invite.from_.tag or "",
        call_id=invite.call_id, body=body,
    )  # fmt: skip


async def ringing_out(headers: str) -> tuple[Wire, OutgoingCall, Request]:
    wire = Wire()
    call, invite = await dial(wire)
    sent = await wire.put(reply_to(invite, 183, body=ANSWER, headers=headers))
    if headers:
        await wire.put(reply_to(only_request(sent, "PRACK"), 200))
    return wire, call, invite


@pytest.mark.parametrize("repeated", ["", ANSWER])
async def test_the_callee_updates_before_it_answers(repeated: str) -> None:
    """Its 200 may repeat the old answer: the new agreement stands."""
    wire, call, invite = await ringing_out("Require: 100rel\nRSeq: 4")
    answer = only(await wire.put(from_callee(invite, "UPDATE", 7, MOVED)), 200)
    assert b"m=audio 4000" in answer.body and "Contact" in answer.headers
    assert call.media and call.media.audio and call.media.audio.remote[1] == 6100
    assert only_request(await wire.put(reply_to(invite, 200, body=repeated)), "ACK")
    assert call.state == "established" and call.media.audio.remote[1] == 6100
    assert statuses(await wire.put(from_callee(invite, "UPDATE", 6, MOVED))) == [500]  # CSeq out of order
    assert statuses(await wire.put(from_callee(invite, "BYE", 8))) == [200]
    assert wire.handler.cause.by == "peer"


async def test_the_callee_updates_after_an_unreliable_answer() -> None:
    wire, call, invite = await ringing_out("")
    assert statuses(await wire.put(from_callee(invite, "UPDATE", 7, MOVED))) == [491]
    assert statuses(await wire.put(from_callee(invite, "UPDATE", 8))) == [200]
    assert statuses(await wire.put(from_callee(invite, "BYE", 9))) == [481]
    assert call.state == "ringing"


async def test_another_fork_answers_than_the_one_that_updated() -> None:
    wire, call, invite = await ringing_out("Require: 100rel\nRSeq: 4")
    await wire.put(from_callee(invite, "UPDATE", 7, MOVED))
    other = sdp("m=audio 6200 RTP/AVP 0\n", "m=video 0 RTP/AVP 97\n")
    await wire.put(reply_to(invite, 200, body=other).replace(";tag=peer", ";tag=second"))
    assert call.dialog.remote_tag == "second"
    assert call.media and call.media.audio and call.media.audio.remote[1] == 6200
    assert statuses(await wire.put(from_callee(invite, "UPDATE", 8))) == [481]
    assert statuses(await wire.put(from_callee(invite, "UPDATE", 1, tag="second"))) == [200]


async def test_a_refused_call_takes_no_update() -> None:
    wire, call, invite = await ringing_out("Require: 100rel\nRSeq: 4")
    await wire.put(reply_to(invite, 486))
    assert call.state == "ended"
    assert statuses(await wire.put(from_callee(invite, "UPDATE", 7, MOVED))) == [481]
    await wire.pass_time(40)
    assert len(wire.agent.transactions) == 0 and wire.clock.pending == 0
