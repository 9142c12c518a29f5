"""Calls of ours, and registration, against scripted peers on a fake clock."""

from __future__ import annotations

import asyncio
import hashlib
import re
from dataclasses import replace

import pytest

from orchestrator.sip.agent.authentication import Credentials
from orchestrator.sip.agent.registration import Registration
from orchestrator.sip.call.call import Call
from orchestrator.sip.call.outgoing import OutgoingCall
from orchestrator.sip.config import Account, SipConfig
from orchestrator.sip.message.grammar import NameAddr, parse_uri
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.message.parsing import parse_message
from orchestrator.sip.message.text import PeerText
from orchestrator.sip.stack import dialled_uri
from orchestrator.sip.transport.flow import Flow
from tests.support.sip_fake import (
    AUDIO,
    PEER,
    Recorder,
    Wire,
    capabilities,
    established,
    only_request,
    reply_to,
    request,
    sdp,
    settle,
    statuses,
)

ANSWER = sdp("m=audio 6000 RTP/AVP 0\n", "m=video 0 RTP/AVP 97\n")


async def dial(
    wire: Wire,
    *,
    credentials: Credentials | None = None,
    account: Account | None = None,
    to: str = f"sip:bob@{PEER[0]}:{PEER[1]}",
    ringing: float = 60.0,
) -> tuple[OutgoingCall, Request]:
    registration = Registration(wire.agent.client, account) if account else None
    call = OutgoingCall(
        wire.agent,
        "out1",
        parse_uri(to),
        capabilities(),
        local=NameAddr(parse_uri("sip:me@127.0.0.1")),
        credentials=registration.credentials if registration else credentials,
        way=registration,
        timeout=ringing,
    )
    wire.agent.start_call(call)
    await settle()
    return call, only_request(wire.take(), "INVITE")


async def test_answered_call_and_our_bye() -> None:
    wire = Wire()
    call, invite = await dial(wire)
    assert b"m=audio 4000" in invite.body and b"m=video 4002" in invite.body
    await wire.put(reply_to(invite, 180))
    ack = only_request(await wire.put(reply_to(invite, 200, body=ANSWER)), "ACK")
    assert ack.uri == f"sip:peer@{PEER[0]}:{PEER[1]}"
    assert ack.to.tag == "peer"
    assert [name for name, _ in wire.handler.events] == ["progress", "media", "established"]
    assert call.media and call.media.audio and call.media.audio.codec == "PCMU"
    call.hangup()
    await settle()
    bye = only_request(wire.take(), "BYE")
    assert bye.cseq[0] > invite.cseq[0]
    await wire.put(reply_to(bye, 200))
    await wire.pass_time(40)
    assert len(wire.agent.transactions) == 0 and wire.clock.pending == 0


async def test_the_peer_hangs_up_a_call_of_ours() -> None:
    wire = Wire()
    call, invite = await dial(wire)
    await wire.put(reply_to(invite, 200, body=ANSWER))
    bye = request("BYE", seq=1, from_tag="peer", to_tag=invite.from_.tag or "", call_id=invite.call_id)
    assert statuses(await wire.put(bye)) == [200]
    assert (wire.handler.cause.by, call.state) == ("peer", "ended")


async def test_invite_is_sent_again_then_given_up() -> None:
    wire = Wire()
    _, invite = await dial(wire)
    sent = [m for m in await wire.pass_time(31.9) if isinstance(m, Request)]
    assert len(sent) == 6
    assert {m.via.branch for m in sent} == {invite.via.branch}
    await wire.pass_time(1)
    assert wire.handler.cause.kind == "no_answer"
    assert wire.clock.pending == 0


@pytest.mark.parametrize(
    ("status", "kind"),
    [(486, "busy"), (603, "rejected"), (488, "not_acceptable"), (480, "no_answer"), (404, "rejected")],
)
async def test_refusals_are_acknowledged(status: int, kind: str) -> None:
    wire = Wire()
    _, invite = await dial(wire)
    ack = only_request(await wire.put(reply_to(invite, status)), "ACK")
    assert ack.via.branch == invite.via.branch
    assert only_request(await wire.put(reply_to(invite, status)), "ACK")
    assert (wire.handler.cause.kind, wire.handler.cause.status) == (kind, status)


async def test_nobody_answers_in_time() -> None:
    wire = Wire()
    _, invite = await dial(wire, ringing=20)
    await wire.put(reply_to(invite, 180))
    cancel = only_request(await wire.pass_time(20), "CANCEL")
    assert cancel.via.branch == invite.via.branch
    await wire.put(reply_to(cancel, 200))
    assert only_request(await wire.put(reply_to(invite, 487)), "ACK")
    assert wire.handler.cause.kind == "no_answer"
    await wire.pass_time(40)
    assert wire.clock.pending == 0


async def test_cancel_waits_for_a_provisional_response() -> None:
    wire = Wire()
    call, invite = await dial(wire)
    call.hangup()
    await settle()
    assert wire.take() == []
    assert only_request(await wire.put(reply_to(invite, 100)), "CANCEL")


async def test_an_answer_that_crosses_our_cancel_is_hung_up() -> None:
    wire = Wire()
    call, invite = await dial(wire)
    await wire.put(reply_to(invite, 180))
    call.hangup()
    await settle()
    wire.take()
    replies = await wire.put(reply_to(invite, 200, body=ANSWER))
    assert only_request(replies, "ACK") and only_request(replies, "BYE")
    assert wire.handler.cause.kind == "cancelled"


async def test_the_extra_fork_is_acknowledged_and_hung_up() -> None:
    wire = Wire()
    _, invite = await dial(wire)
    await wire.put(reply_to(invite, 200, body=ANSWER))
    other = reply_to(invite, 200, body=ANSWER).replace(";tag=peer", ";tag=other")
    replies = await wire.put(other)
    assert only_request(replies, "ACK").to.tag == "other"
    assert only_request(replies, "BYE").to.tag == "other"
    again = await wire.put(reply_to(invite, 200, body=ANSWER))
    assert only_request(again, "ACK").to.tag == "peer"
    assert [name for name, _ in wire.handler.events].count("established") == 1


async def test_record_route_of_the_answer_is_followed_backwards() -> None:
    wire = Wire()
    call, invite = await dial(wire)
    routes = "Record-Route: <sip:127.0.0.8;lr>\nRecord-Route: <sip:127.0.0.7;lr>"
    ack = only_request(await wire.put(reply_to(invite, 200, body=ANSWER, headers=routes)), "ACK")
    assert ack.headers.values("Route") == ["<sip:127.0.0.7;lr>", "<sip:127.0.0.8;lr>"]
    assert wire.asked[-1] == "sip:127.0.0.7;lr"
    call.hangup()
    await settle()
    assert only_request(wire.take(), "BYE").headers.values("Route")[0] == "<sip:127.0.0.7;lr>"


class Following(Recorder):
    """A handler that lets callees redirect to some."""

    def __init__(self, *allowed: str) -> None:
        super().__init__()
        self.allowed = allowed

    async def on_redirect(self, call: Call, target: PeerText) -> bool:
        return target in self.allowed


async def test_redirection() -> None:
    wire = Wire(Following("sip:high@127.0.0.5"))
    _, invite = await dial(wire)
    moved = reply_to(invite, 302).replace(
        f"Contact: <sip:peer@{PEER[0]}:{PEER[1]}>",
        "Contact: <sip:low@127.0.0.4>;q=0.1, <sip:high@127.0.0.5>;q=0.9",
    )
    replies = await wire.put(moved)
    assert only_request(replies, "ACK")
    assert only_request(replies, "INVITE").uri == "sip:high@127.0.0.5"


async def test_the_next_proxy_is_asked() -> None:
    wire = Wire()
    _, first = await dial(
        wire, account=Account("sip:me@127.0.0.1", proxies=("sip:127.0.0.11", "sip:127.0.0.12;lr"))
    )
    assert first.headers.values("Route") == ["<sip:127.0.0.11;lr>"]
    second = only_request(await wire.put(reply_to(first, 503)), "INVITE")
    assert second.headers.values("Route") == ["<sip:127.0.0.12;lr>"]
    assert second.cseq[0] > first.cseq[0]
    assert wire.asked == ["sip:127.0.0.11", "sip:127.0.0.12;lr"]


async def test_a_callee_sends_us_nowhere_else_unasked() -> None:
    wire = Wire()
    call, invite = await dial(wire)
    contact = f"Contact: <sip:peer@{PEER[0]}:{PEER[1]}>"
    (ack,) = await wire.put(reply_to(invite, 302).replace(contact, "Contact: <sip:+499001123456@127.0.0.5>"))
    assert isinstance(ack, Request) and ack.method == "ACK"
    assert call.state == "ended" and wire.handler.cause.status == 302


TRUNK = Account("sip:me@trunk.example", "secret", registrar="sip:127.0.0.11")


def asked(realm: str, status: int = 407) -> str:
    name = "Proxy-Authenticate" if status == 407 else "WWW-Authenticate"
    return f'{name}: Digest realm="{realm}", nonce="n1", qop="auth"'


@pytest.mark.parametrize("status", [401, 407])
async def test_a_password_answers_its_account_only(status: int) -> None:
    wire = Wire()
    _, invite = await dial(wire, account=TRUNK)
    assert wire.asked == ["sip:127.0.0.11"] and invite.headers.values("Route") == ["<sip:127.0.0.11;lr>"]
    replies = await wire.put(reply_to(invite, status, headers=asked("elsewhere.example", status)))
    assert [one.method for one in replies if isinstance(one, Request)] == ["ACK"]
    assert wire.handler.cause.status == status


@pytest.mark.parametrize("realm", ["trunk.example", "TRUNK.example", "127.0.0.11"])
async def test_the_realm_of_an_account_is_told_by_its_hosts(realm: str) -> None:
    wire = Wire()
    _, invite = await dial(wire, account=TRUNK)
    again = only_request(await wire.put(reply_to(invite, 407, headers=asked(realm))), "INVITE")
    assert again.headers.get("Proxy-Authorization")


@pytest.mark.parametrize(("realm", "answered"), [("asterisk", True), ("trunk.example", False)])
async def test_the_realm_of_an_account_is_a_setting(realm: str, *, answered: bool) -> None:
    wire = Wire()
    _, invite = await dial(wire, account=replace(TRUNK, realm="asterisk"))
    replies = await wire.put(reply_to(invite, 407, headers=asked(realm)))
    assert ["ACK", "INVITE"][: 1 + answered] == [one.method for one in replies if isinstance(one, Request)]


async def test_the_realm_of_an_account_is_learnt_from_its_registrar() -> None:
    wire = Wire()
    registration, task = await start_registration(wire, TRUNK)
    first = only_request(wire.take(), "REGISTER")
    again = only_request(await wire.put(reply_to(first, 401, headers=asked("asterisk", 401))), "REGISTER")
    await wire.put(reply_to(again, 200))
    task.cancel()
    challenge = Response(status=401)
    challenge.headers.add("WWW-Authenticate", asked("asterisk", 401).partition(": ")[2])
    assert registration.credentials.answer(Request(method="INVITE", uri="sip:x@y"), challenge)


async def test_a_server_outside_the_account_gets_no_password() -> None:
    """A dialog's next request may go straight to the callee."""
    wire = Wire()
    call, invite = await dial(wire, account=TRUNK)
    await wire.put(reply_to(invite, 200, body=ANSWER))
    wire.take()
    call.hangup()
    await settle()
    bye = only_request(wire.take(), "BYE")
    assert await wire.put(reply_to(bye, 407, headers=asked("trunk.example"))) == []


async def test_a_target_at_the_registrar_needs_no_route() -> None:
    wire = Wire()
    _, invite = await dial(wire, account=TRUNK, to="sip:bob@127.0.0.11")
    assert "Route" not in invite.headers and wire.asked == ["sip:bob@127.0.0.11"]
    assert only_request(await wire.put(reply_to(invite, 407, headers=asked("trunk.example"))), "INVITE")


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256"])
async def test_challenged_invite(algorithm: str) -> None:
    wire = Wire()
    _, invite = await dial(wire, credentials=Credentials("me", "secret"))
    challenge = (
        f'Proxy-Authenticate: Digest realm="r", nonce="n1", qop="auth,auth-int", algorithm={algorithm}'
    )
    replies = await wire.put(reply_to(invite, 407, headers=challenge))
    assert only_request(replies, "ACK")
    again = only_request(replies, "INVITE")
    assert again.cseq[0] == invite.cseq[0] + 1
    given = dict(re.findall(r'(\w+)="?([^",]+)"?', again.headers.get("Proxy-Authorization") or ""))
    digest = hashlib.md5 if algorithm == "MD5" else hashlib.sha256
    ha1 = digest(b"me:r:secret").hexdigest()
    ha2 = digest(f"INVITE:{again.uri}".encode()).hexdigest()
    expected = digest(f"{ha1}:n1:{given['nc']}:{given['cnonce']}:auth:{ha2}".encode()).hexdigest()
    assert given["response"] == expected
    assert only_request(await wire.put(reply_to(again, 407, headers=challenge)), "ACK")
    assert wire.handler.cause.status == 407


async def test_reliable_early_media() -> None:
    wire = Wire()
    call, invite = await dial(wire)
    early = reply_to(invite, 183, body=ANSWER, headers="Require: 100rel\nRSeq: 4")
    prack = only_request(await wire.put(early), "PRACK")
    assert prack.headers.get("RAck") == f"4 {invite.cseq[0]} INVITE"
    assert await wire.put(early) == []
    await wire.put(reply_to(prack, 200))
    assert call.media and call.media.audio
    await wire.put(reply_to(invite, 200))
    assert [name for name, _ in wire.handler.events][:2] == ["media", "progress"]
    assert wire.handler.events[-1][0] == "established"


async def test_unreachable() -> None:
    wire = Wire()
    wire.unreachable = True
    call = OutgoingCall(
        wire.agent, "o", parse_uri("sip:x@127.0.0.2"), capabilities(), local=NameAddr(parse_uri("sip:a@b"))
    )
    wire.agent.start_call(call)
    await settle()
    assert wire.handler.cause.kind == "unreachable"


async def test_one_we_called_may_not_call_us() -> None:
    wire = Wire(config=SipConfig(allow_from=("10.0.0.0/8",)))
    _, invite = await dial(wire)
    ack = only_request(await wire.put(reply_to(invite, 200, body=ANSWER)), "ACK")
    assert ack
    assert await wire.put(request("INVITE", body=sdp(AUDIO))) == []
    assert await wire.put(request("OPTIONS", branch="z9hG4bKo")) == []
    bye = request(
        "BYE", branch="z9hG4bKb", from_tag="peer", to_tag=invite.from_.tag or "", call_id=invite.call_id
    )
    assert statuses(await wire.put(bye)) == [200]


ACCOUNT = Account(f"sip:me@{PEER[0]}", "secret", registrar=f"sip:{PEER[0]}:{PEER[1]}", expires=600)


async def start_registration(
    wire: Wire, account: Account = ACCOUNT
) -> tuple[Registration, asyncio.Task[None]]:
    registration = Registration(wire.agent.client, account)
    task = asyncio.ensure_future(registration.run())
    await settle()
    return registration, task


async def test_registration_with_a_stale_nonce_and_refresh() -> None:
    wire = Wire()
    registration, task = await start_registration(wire)
    first = only_request(wire.take(), "REGISTER")
    assert first.uri == f"sip:{PEER[0]}:{PEER[1]}"
    challenge = 'WWW-Authenticate: Digest realm="r", nonce="n1", qop="auth"'
    second = only_request(await wire.put(reply_to(first, 401, headers=challenge)), "REGISTER")
    stale = 'WWW-Authenticate: Digest realm="r", nonce="n2", qop="auth", stale=true'
    third = only_request(await wire.put(reply_to(second, 401, headers=stale)), "REGISTER")
    assert 'nonce="n2"' in (third.headers.get("Authorization") or "")
    contact = f"Contact: <sip:peer@{PEER[0]}:{PEER[1]}>"
    granted = reply_to(third, 200).replace(contact, f"Contact: {third.headers.get('Contact')};expires=100")
    await wire.put(granted)
    assert registration.registered and registration.expires == 100
    early = [data for _, data in wire.sent if data != b"\r\n\r\n"]
    assert early == []
    wire.clock.advance(79)
    for _ in range(4):
        await settle()
        wire.clock.advance(0)
    assert all(data == b"\r\n\r\n" for _, data in wire.sent)
    wire.sent.clear()
    for _ in range(6):
        wire.clock.advance(10)
        await settle()
    refresh = [parse_message(data) for _, data in wire.sent if data != b"\r\n\r\n"]
    assert isinstance(refresh[0], Request) and refresh[0].method == "REGISTER"
    assert refresh[0].call_id == first.call_id
    task.cancel()


async def test_registration_interval_too_brief() -> None:
    wire = Wire()
    _, task = await start_registration(wire)
    first = only_request(wire.take(), "REGISTER")
    second = only_request(await wire.put(reply_to(first, 423, headers="Min-Expires: 1800")), "REGISTER")
    assert second.headers.get("Expires") == "1800"
    task.cancel()


async def test_a_wrong_password_is_not_tried_for_ever() -> None:
    wire = Wire()
    registration, task = await start_registration(wire)
    first = only_request(wire.take(), "REGISTER")
    second = only_request(
        await wire.put(reply_to(first, 401, headers='WWW-Authenticate: Digest realm="r", nonce="n1"')),
        "REGISTER",
    )
    assert (
        await wire.put(reply_to(second, 401, headers='WWW-Authenticate: Digest realm="r", nonce="n2"')) == []
    )
    assert registration.status == 401
    assert only_request(await wire.pass_time(5), "REGISTER")
    task.cancel()


async def test_registrar_failover() -> None:
    wire = Wire()
    account = Account("sip:me@example.com", "x", proxies=("sip:127.0.0.11", "sip:127.0.0.12"))
    registration, task = await start_registration(wire, account)
    first = only_request(wire.take(), "REGISTER")
    second = only_request(await wire.put(reply_to(first, 503)), "REGISTER")
    assert wire.asked == ["sip:127.0.0.11", "sip:127.0.0.12"]
    await wire.put(reply_to(second, 200))
    assert registration.registered
    task.cancel()


async def test_inbound_calls_are_challenged() -> None:
    wire = Wire(config=SipConfig(users={"anna": "secret"}))
    replies = await wire.put(request("INVITE", body=sdp(AUDIO)))
    (challenged,) = replies
    assert isinstance(challenged, Response) and challenged.status == 401
    assert [v.split("algorithm=")[1] for v in challenged.headers.all("WWW-Authenticate")] == [
        "SHA-256",
        "MD5",
    ]
    retry = parse_message(
        request("INVITE", branch="z9hG4bK2", seq=2, body=sdp(AUDIO)).replace("\n", "\r\n").encode()
    )
    assert isinstance(retry, Request)
    assert Credentials("anna", "secret").answer(retry, challenged)
    assert "SHA-256" in (retry.headers.get("Authorization") or "")
    assert statuses(await wire.put(bytes(retry))) == [100, 200]
    retry.headers.remove("Authorization")
    wrong = parse_message(bytes(retry).replace(b"CSeq: 2", b"CSeq: 3").replace(b"z9hG4bK2", b"z9hG4bK3"))
    assert isinstance(wrong, Request)
    assert Credentials("anna", "guess").answer(wrong, challenged)
    assert statuses(await wire.put(bytes(wrong))) == [401]


async def test_credentials_that_are_no_text_are_wrong_ones() -> None:
    wire = Wire(config=SipConfig(users={"anna": "secret"}))
    header = (
        'Authorization: Digest username="anna", realm="visavis", nonce="NONCE", uri="sip:x", response="0"'
    )
    data = request("INVITE", body=sdp(AUDIO), headers=header).replace("\n", "\r\n").encode()
    assert statuses(await wire.put(data.replace(b"NONCE", b"\xff"))) == [401]
    empty = data.replace(b'"0"', b'"0", qop=auth, nc=""').replace(b"Call-ID: c1", b"Call-ID: c2")
    assert statuses(await wire.put(empty.replace(b"z9hG4bKa", b"z9hG4bKb"))) == [401]
    challenge = Response(status=401)
    challenge.headers.add("WWW-Authenticate", 'Digest realm="r", nonce="\udcff", qop="auth"')
    assert not Credentials("anna", "secret").answer(Request(method="INVITE", uri="sip:x@y"), challenge)


def test_what_can_be_dialled() -> None:
    assert str(dialled_uri("sip:a@b.example", "")) == "sip:a@b.example"
    assert str(dialled_uri("a@b.example;transport=tcp", "")) == "sip:a@b.example;transport=tcp"
    assert str(dialled_uri("tel:+4930123", "trunk.example")) == "sip:+4930123@trunk.example"
    assert str(dialled_uri("+4930123", "trunk.example")) == "sip:+4930123@trunk.example"
    for wrong in ("", "a b", "sip:", "tel:123"):
        with pytest.raises(ValueError, match="cannot be dialled"):
            dialled_uri(wrong, "")


async def test_a_longer_session_timer_is_asked_for_when_wanted() -> None:
    wire = Wire(config=SipConfig(session_expires=600))
    _, invite = await dial(wire)
    assert invite.headers.get("Session-Expires") == "600"
    again = only_request(await wire.put(reply_to(invite, 422, headers="Min-SE: 900")), "INVITE")
    assert (again.headers.get("Session-Expires"), again.headers.get("Min-SE")) == ("900", "900")
    answer = reply_to(again, 200, body=ANSWER, headers="Session-Expires: 900;refresher=uas")
    await wire.put(answer)
    assert only_request(await wire.pass_time(900), "BYE")
    assert wire.handler.cause.kind == "session_expired"


async def test_a_proxy_that_does_not_answer_options_is_dialled_last() -> None:
    wire = Wire()
    account = Account(
        "sip:me@example.com", proxies=("sip:127.0.0.11", "sip:127.0.0.12"), register=False, ping=30
    )
    registration = Registration(wire.agent.client, account)
    task = asyncio.ensure_future(registration.trunk.run())
    await settle()
    first, second = (m for m in wire.take() if isinstance(m, Request))
    assert (first.method, first.uri) == ("OPTIONS", "sip:127.0.0.11")
    await wire.put(reply_to(second, 404))
    await wire.pass_time(33)
    assert [proxy.host for proxy in registration.trunk.proxies()] == ["127.0.0.12", "127.0.0.11"]
    again = [m for m in await wire.pass_time(30) if isinstance(m, Request) and m.uri == "sip:127.0.0.11"]
    await wire.put(reply_to(again[0], 200))
    assert registration.trunk.proxies()[0].host == "127.0.0.11"
    task.cancel()


async def test_a_handler_that_hangs_does_not_hide_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestrator.sip.call.events.LAST_EVENT_SECONDS", 0.01)

    release = asyncio.Event()

    class Hanging(Recorder):
        async def on_established(self, call: Call) -> None:
            await release.wait()

    wire = Wire(Hanging())
    tag = await established(wire)
    await wire.put(request("BYE", branch="z9hG4bKb", seq=2, to_tag=tag))
    async with asyncio.timeout(10):
        while not any(name == "ended" for name, _ in wire.handler.events):
            await asyncio.sleep(0)
    assert wire.handler.cause.kind == "hangup"
    release.set()
    await settle()


async def test_a_handler_that_fails_ends_its_call() -> None:
    class Failing(Recorder):
        async def on_progress(self, call: Call, status: int) -> None:
            raise RuntimeError("boom")

    wire = Wire(Failing())
    _, invite = await dial(wire)
    assert only_request(await wire.put(reply_to(invite, 180)), "CANCEL")


async def test_a_repeated_challenge_is_acknowledged_as_the_first_time() -> None:
    """RFC 3261 section 17.1.1.3: the branch and number of the INVITE that was challenged, not of the next one."""
    wire = Wire()
    _, invite = await dial(wire, credentials=Credentials("me", "secret"))
    challenged = reply_to(invite, 407, headers='Proxy-Authenticate: Digest realm="r", nonce="n1", qop="auth"')
    first = only_request(await wire.put(challenged), "ACK")
    again = only_request(await wire.put(challenged), "ACK")
    assert bytes(again) == bytes(first)
    assert (again.via.params["branch"], again.cseq[0]) == (invite.via.params["branch"], invite.cseq[0])


async def test_who_dials_does_not_learn_which_ports_are_open() -> None:
    reasons = set()
    for error in (
        ConnectionRefusedError(111, "Connect call failed ('10.0.0.1', 22)"),
        TimeoutError(),
        OSError("no"),
    ):
        wire = Wire()

        async def fail(*_: object, error: Exception = error, **__: object) -> Flow:
            raise error

        wire.open_flow = fail  # type: ignore[method-assign]
        call = OutgoingCall(
            wire.agent, "out1", parse_uri("sip:x@10.0.0.1:22;transport=tcp"), capabilities(),
            local=NameAddr(parse_uri("sip:me@127.0.0.1")),
        )  # fmt: skip
        wire.agent.start_call(call)
        await settle()
        assert call.cause is not None
        reasons.add((call.cause.kind, call.cause.text))
    assert reasons == {("unreachable", "no connection")}
