"""RFC 3261 section 17 and what the agent builds on it, on a fake clock."""

from __future__ import annotations

import pytest

from orchestrator.sip.call.events import RefusedCall
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.message import Request
from orchestrator.sip.sdp.capabilities import NotAcceptable
from tests.support.sip_fake import (
    AUDIO,
    PEER,
    VIDEO,
    Recorder,
    Wire,
    established,
    only,
    only_request,
    request,
    sdp,
    settle,
    statuses,
)

OFFER = sdp(AUDIO, VIDEO)


def ringing(call: IncomingCall) -> None:
    call.ring()


async def test_call_set_up_and_taken_down() -> None:
    wire = Wire()
    replies = await wire.put(request("INVITE", body=OFFER))
    assert statuses(replies) == [100, 200]
    assert replies[0].to.tag is None
    answer = only(replies, 200)
    assert "m=audio 4000 RTP/AVP 0 101" in answer.body.decode()
    assert answer.headers.get("Contact") == "<sip:visavis@127.0.0.1:5060>"
    tag = answer.to.tag or ""
    assert await wire.put(request("ACK", branch="z9hG4bKack", to_tag=tag)) == []
    assert statuses(await wire.put(request("BYE", branch="z9hG4bKbye", seq=2, to_tag=tag))) == [200]
    assert [name for name, _ in wire.handler.events] == ["invite", "established", "ended"]
    assert (wire.handler.cause.kind, wire.handler.cause.by) == ("hangup", "peer")
    await wire.pass_time(64)
    assert len(wire.agent.transactions) == 0
    assert not wire.agent.calls
    assert wire.clock.pending == 0


async def test_invite_retransmissions_are_absorbed_in_every_state() -> None:
    wire = Wire(Recorder(on_call=ringing))
    invite = request("INVITE", body=OFFER)
    first = await wire.put(invite)
    assert statuses(first) == [100, 180]
    again = await wire.put(invite)
    assert statuses(again) == [180]
    assert again[0].to.tag == only(first, 180).to.tag
    call = wire.handler.calls[0]
    assert isinstance(call, IncomingCall)
    call.answer(wire.handler.caps)
    answer = only(wire.take(), 200)
    assert answer.to.tag == only(first, 180).to.tag
    assert await wire.put(invite) == []
    assert len(wire.handler.calls) == 1


async def test_2xx_is_repeated_until_acknowledged() -> None:
    wire = Wire()
    answer = only(await wire.put(request("INVITE", body=OFFER)), 200)
    times = []
    for tick in range(1, 80):
        if wire_replies := await wire.pass_time(0.1):
            assert statuses(wire_replies) == [200]
            times.append(round(tick * 0.1, 1))
    assert times == [0.5, 1.5, 3.5, 7.5]
    await wire.put(request("ACK", branch="z9hG4bKack", to_tag=answer.to.tag or ""))
    assert await wire.pass_time(40) == []


async def test_a_2xx_never_acknowledged_ends_in_bye() -> None:
    wire = Wire()
    await wire.put(request("INVITE", body=OFFER))
    assert statuses(await wire.pass_time(31.9))
    bye = only_request(await wire.pass_time(0.2), "BYE")
    assert bye.uri == f"sip:peer@{PEER[0]}:{PEER[1]}"
    assert (wire.handler.cause.kind, wire.handler.cause.by) == ("no_ack", "us")


async def test_hangup_before_the_ack_waits_for_it() -> None:
    wire = Wire()
    tag = only(await wire.put(request("INVITE", body=OFFER)), 200).to.tag or ""
    wire.handler.calls[0].hangup()
    assert wire.take() == []
    assert only_request(await wire.put(request("ACK", branch="z9hG4bKack", to_tag=tag)), "BYE")


async def test_refusal_is_repeated_until_acknowledged() -> None:
    wire = Wire(Recorder(on_call=lambda call: call.reject(486)))
    invite = request("INVITE", body=OFFER)
    refusal = only(await wire.put(invite), 486)
    assert statuses(await wire.pass_time(0.5)) == [486]
    assert statuses(await wire.pass_time(1.0)) == [486]
    assert statuses(await wire.put(invite)) == [486]
    await wire.put(request("ACK", to_tag=refusal.to.tag or ""))
    assert await wire.pass_time(40) == []
    assert len(wire.agent.transactions) == 0
    assert wire.handler.cause.kind == "busy"


async def test_over_tcp_a_refusal_is_sent_once() -> None:
    wire = Wire(Recorder(on_call=lambda call: call.reject(486)), transport="TCP")
    assert statuses(await wire.put(request("INVITE", body=OFFER, transport="TCP"))) == [100, 486]
    assert await wire.pass_time(31) == []


async def test_cancel_while_ringing() -> None:
    wire = Wire(Recorder(on_call=ringing))
    await wire.put(request("INVITE", body=OFFER))
    replies = await wire.put(request("CANCEL"))
    assert statuses(replies) == [200, 487]
    assert len({message.to.tag for message in replies}) == 1
    assert wire.handler.cause.kind == "cancelled"
    call = wire.handler.calls[0]
    assert isinstance(call, IncomingCall)
    call.reject(486)
    assert wire.take() == []


async def test_cancel_of_nothing_and_too_late() -> None:
    wire = Wire()
    assert statuses(await wire.put(request("CANCEL", branch="z9hG4bKnone"))) == [481]
    await wire.put(request("INVITE", body=OFFER))
    assert statuses(await wire.put(request("CANCEL"))) == [200]
    assert wire.handler.calls[0].state == "answered"


async def test_merged_request() -> None:
    wire = Wire(Recorder(on_call=ringing))
    await wire.put(request("INVITE", body=OFFER))
    assert statuses(await wire.put(request("INVITE", body=OFFER, branch="z9hG4bKother"))) == [482]
    assert len(wire.handler.calls) == 1


async def test_bye_again_and_bye_with_a_wrong_tag() -> None:
    wire = Wire()
    tag = await established(wire)
    assert statuses(await wire.put(request("BYE", seq=2, branch="z9hG4bKx", to_tag="wrong"))) == [481]
    bye = request("BYE", seq=3, branch="z9hG4bKb", to_tag=tag)
    assert statuses(await wire.put(bye)) == [200]
    assert statuses(await wire.put(bye)) == [200]
    assert [name for name, _ in wire.handler.events].count("ended") == 1


async def test_old_cseq_is_refused() -> None:
    wire = Wire()
    tag = await established(wire)
    await wire.put(request("OPTIONS", seq=9, branch="z9hG4bKo", to_tag=tag))
    assert statuses(await wire.put(request("BYE", seq=5, branch="z9hG4bKb", to_tag=tag))) == [500]
    assert wire.agent.calls


async def test_a_failing_handler_answers_500() -> None:
    def broken(call: IncomingCall) -> None:
        raise RuntimeError("boom")

    wire = Wire(Recorder(on_call=broken))
    assert statuses(await wire.put(request("INVITE", body=OFFER))) == [100, 500]
    assert wire.handler.cause.kind == "error"
    assert not wire.agent.calls


async def test_no_codec_in_common_answers_488() -> None:
    wire = Wire()
    offer = sdp("m=audio 6000 RTP/AVP 18\na=rtpmap:18 G729/8000\n")
    refusal = only(await wire.put(request("INVITE", body=offer)), 488)
    assert "codec" in (refusal.headers.get("Warning") or "")


async def test_a_handler_may_refuse_by_raising() -> None:
    def refuse(call: IncomingCall) -> None:
        raise NotAcceptable("not today")

    wire = Wire(Recorder(on_call=refuse))
    assert statuses(await wire.put(request("INVITE", body=OFFER))) == [100, 488]


@pytest.mark.parametrize(
    ("changes", "status", "header", "value"),
    [
        ({"method": "MESSAGE"}, 405, "Allow", "INVITE"),
        ({"method": "SUBSCRIBE"}, 489, None, None),
        ({"method": "NOTIFY"}, 489, None, None),
        ({"method": "UPDATE"}, 481, None, None),
        ({"method": "BYE"}, 481, None, None),
        ({"method": "INVITE", "headers": "Require: foo, 100rel, bar"}, 420, "Unsupported", "foo, bar"),
        ({"method": "INVITE", "body": "<x/>", "content_type": "text/xml"}, 415, "Accept", "application/sdp"),
        ({"method": "INVITE", "headers": "Content-Encoding: gzip", "body": OFFER}, 415, "Accept-Encoding", "id"),
        ({"method": "INVITE", "headers": "Accept: text/plain", "body": OFFER}, 406, None, None),
        ({"method": "INVITE", "body": "v=0\nm=audio x RTP/AVP 0\n"}, 400, "Warning", "port"),
        ({"method": "INVITE", "uri": "mailto:anna@example.com"}, 416, None, None),
        ({"method": "OPTIONS"}, 200, "Allow", "INVITE"),
        ({"method": "OPTIONS"}, 200, "Accept", "application/sdp"),
        ({"method": "OPTIONS"}, 200, "Supported", "timer"),
    ],
)  # fmt: skip
async def test_refusals_explain_themselves(
    changes: dict[str, str], status: int, header: str | None, value: str | None
) -> None:
    wire = Wire()
    method = changes.pop("method")
    reply = only(await wire.put(request(method, **changes)), status)
    assert reply.to.tag
    if header is not None and value is not None:
        assert value in (reply.headers.get(header) or "")


async def test_full_and_draining() -> None:
    wire = Wire(config=SipConfig(max_calls=1, retry_after=7))
    await wire.put(request("INVITE", body=OFFER))
    refused = only(await wire.put(request("INVITE", body=OFFER, branch="z9hG4bK2", call_id="c2")), 503)
    assert refused.headers.get("Retry-After") == "7"
    wire.agent.admission.draining = True
    assert statuses(await wire.put(request("OPTIONS", branch="z9hG4bK3"))) == [503]
    assert statuses(await wire.put(request("INVITE", body=OFFER, branch="z9hG4bK4", call_id="c3"))) == [503]
    told = [value for name, value in wire.handler.events if name == "refused"]
    assert [(one.sip_call_id, one.cause) for one in told if isinstance(one, RefusedCall)] == [
        ("c2", "no_room"),
        ("c3", "draining"),
    ]


@pytest.mark.parametrize(
    "config",
    [SipConfig(max_calls_per_source=1), SipConfig(max_calls=1, invites_per_second=0.5)],
)
async def test_a_source_over_its_own_limit_is_refused_without_telling(config: SipConfig) -> None:
    wire = Wire(config=config)
    await wire.put(request("INVITE", body=OFFER))
    assert statuses(await wire.put(request("INVITE", body=OFFER, branch="z9hG4bK2", call_id="c2"))) == [503]
    assert [name for name, _ in wire.handler.events] == ["invite"]


async def test_strangers_get_no_answer() -> None:
    wire = Wire()
    stranger = wire.flow
    stranger.remote = ("203.0.113.5", 5060)
    assert await wire.put(request("OPTIONS"), stranger) == []
    open_wire = Wire(config=SipConfig(allow_from=("203.0.113.0/24",)))
    open_wire.flow.remote = ("203.0.113.5", 5060)
    assert statuses(await open_wire.put(request("OPTIONS"))) == [200]
    open_wire.flow.remote = PEER
    assert await open_wire.put(request("OPTIONS")) == []


async def test_a_flood_is_cut_and_then_forgiven() -> None:
    wire = Wire(config=SipConfig(messages_per_second=10))
    answered = 0
    for number in range(50):
        answered += len(await wire.put(request("OPTIONS", branch=f"z9hG4bK{number}", seq=number)))
    assert answered == 20
    await wire.pass_time(1)
    assert statuses(await wire.put(request("OPTIONS", branch="z9hG4bKlater", seq=99))) == [200]


async def test_response_goes_to_rport_else_to_the_port_in_via() -> None:
    wire = Wire()
    wire.flow.remote = (PEER[0], 40001)
    await wire.put(request("OPTIONS"))
    wire.agent.receive(request("OPTIONS", branch="z9hG4bKn").replace(";rport", "").encode(), wire.flow)
    wire.agent.receive(request("OPTIONS", branch="z9hG4bKo").encode(), wire.flow)
    assert [remote[1] for remote, _ in wire.sent] == [PEER[1], 40001]
    reply = wire.take()[1]
    assert reply.via.params["rport"] == "40001"
    assert reply.via.params["received"] == PEER[0]


async def test_record_route_is_echoed_and_followed() -> None:
    wire = Wire()
    routes = "Record-Route: <sip:127.0.0.7:5070;lr>\nRecord-Route: <sip:127.0.0.8;lr>"
    answer = only(await wire.put(request("INVITE", body=OFFER, headers=routes)), 200)
    assert answer.headers.all("Record-Route") == ["<sip:127.0.0.7:5070;lr>", "<sip:127.0.0.8;lr>"]
    await wire.put(request("ACK", branch="z9hG4bKack", to_tag=answer.to.tag or ""))
    wire.handler.calls[0].hangup()
    await wire.pass_time(0)
    assert wire.asked == ["sip:127.0.0.7:5070;lr"]


async def test_strict_routes() -> None:
    wire = Wire()
    await established(wire, headers="Record-Route: <sip:127.0.0.7>\nRecord-Route: <sip:127.0.0.8;lr>")
    wire.handler.calls[0].hangup()
    bye = only_request(await wire.pass_time(0), "BYE")
    assert bye.uri == "sip:127.0.0.7"
    assert bye.headers.values("Route") == ["<sip:127.0.0.8;lr>", f"<sip:peer@{PEER[0]}:{PEER[1]}>"]


async def test_bye_is_sent_again_until_answered() -> None:
    wire = Wire()
    await established(wire)
    wire.handler.calls[0].hangup("done")
    first = only_request(await wire.pass_time(0), "BYE")
    again = only_request(await wire.pass_time(0.5), "BYE")
    assert again.via.branch == first.via.branch
    assert isinstance(first, Request)
    reply = f"SIP/2.0 200 OK\nVia: {first.headers.get('Via')}\n" + "\n".join(
        f"{name}: {first.headers.get(name)}" for name in ("From", "To", "Call-ID", "CSeq")
    )
    await wire.put(reply + "\nContent-Length: 0\n\n")
    assert await wire.pass_time(40) == []
    assert wire.clock.pending == 0


async def test_contact_names_the_transport() -> None:
    wire = Wire(transport="TCP")
    answer = only(await wire.put(request("INVITE", body=OFFER, transport="TCP")), 200)
    assert answer.headers.get("Contact") == "<sip:visavis@127.0.0.1:5060;transport=tcp>"


async def test_the_port_named_by_a_peer_behind_nat_is_not_used() -> None:
    wire = Wire()
    wire.flow.remote = ("127.0.0.9", 33333)
    private = request("INVITE", body=OFFER).replace(f"{PEER[0]}:{PEER[1]};branch", "192.168.1.5:5060;branch")
    private = private.replace(f"Contact: <sip:peer@{PEER[0]}:{PEER[1]}>", "Contact: <sip:peer@192.168.1.5>")
    tag = only(await wire.put(private), 200).to.tag or ""
    await wire.put(request("ACK", branch="z9hG4bKack", to_tag=tag))
    wire.handler.calls[0].hangup()
    await settle()
    assert [remote for remote, _ in wire.sent] == [("127.0.0.9", 33333)]
    assert only_request(wire.take(), "BYE").uri == "sip:peer@192.168.1.5"
    assert wire.asked == []


async def test_nothing_rings_for_ever() -> None:
    wire = Wire(Recorder(on_call=ringing), SipConfig(ring_timeout=20))
    await wire.put(request("INVITE", body=OFFER))
    assert statuses(await wire.pass_time(20)) == [480]
    assert wire.handler.cause.kind == "no_answer"


async def test_rubbish_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    wire = Wire()
    with caplog.at_level("INFO", logger="orchestrator.sip"):
        for _ in range(50):
            await wire.put("INVITE rubbish\n\n")
        await wire.pass_time(1)
        await wire.put("INVITE rubbish\n\n")
    assert [vars(record)["fields"]["count"] for record in caplog.records] == [1, 50]


async def test_transactions_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.sip.transaction.layer.MAX_SERVER_TRANSACTIONS", 5)
    wire = Wire()
    answered = [await wire.put(request("OPTIONS", branch=f"z9hG4bK{n}", call_id=str(n))) for n in range(8)]
    assert [statuses(replies) for replies in answered] == [[200]] * 5 + [[]] * 3
    await wire.pass_time(33)
    assert statuses(await wire.put(request("OPTIONS", branch="z9hG4bKx", call_id="x"))) == [200]
