"""SIPp answers calls of ours, and is our registrar."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from orchestrator.sip.call.outgoing import OutgoingCall
from orchestrator.sip.config import Account, SipConfig
from orchestrator.sip.stack import SipStack
from testing.ports import free_port
from tests.peers.sipp import Pause, Recv, Send, Sipp, Step, offer, reply, request
from tests.support.sip_fake import Recorder, capabilities
from tests.support.waiting import until

pytestmark = [pytest.mark.peer("sipp"), pytest.mark.process]


@pytest.fixture
async def stack() -> AsyncIterator[SipStack]:
    async with running() as started:
        yield started


@asynccontextmanager
async def running(*accounts: Account) -> AsyncIterator[SipStack]:
    stack = SipStack(SipConfig(udp=("127.0.0.1:0",), tcp=("127.0.0.1:0",), accounts=accounts), Recorder())
    await stack.start()
    yield stack
    await stack.close()
    assert not stack.calls


@pytest.fixture
def sipp(tmp_path: Path) -> Sipp:
    return Sipp(tmp_path)


UAS_ANSWER = offer().replace("RTP/AVP 0 8 101", "RTP/AVP 0 101").replace("RTP/AVP 96", "RTP/AVP 97").replace(
    ":96 ", ":97 ")  # fmt: skip


async def dial(stack: SipStack, port: int, transport: str = "udp") -> OutgoingCall:
    """Dial SIPp and wait for the outcome."""
    call = stack.dial(f"sip:bob@127.0.0.1:{port};transport={transport}", capabilities())
    await until(lambda: call.state in ("established", "ended"))
    return call


def outcome(call: OutgoingCall) -> tuple[str, str, int]:
    """(state, kind, status)."""
    return call.state, call.cause.kind if call.cause else "", call.cause.status if call.cause else 0


async def test_we_call_and_hang_up(stack: SipStack, sipp: Sipp) -> None:
    steps: list[Step] = [
        Recv("INVITE"), reply("180 Ringing"), Pause(100), reply("200 OK", body=UAS_ANSWER, again=True),
        Recv("ACK"), Recv("BYE"), reply("200 OK", tag=""),
    ]  # fmt: skip
    uas = await sipp.start("uas", steps, ("127.0.0.1", 9))
    await asyncio.sleep(0.5)
    call = await dial(stack, uas.port)
    assert outcome(call) == ("established", "", 0)
    assert call.media and call.media.video and call.media.video.packetization_mode == 1
    call.hangup()
    await uas.wait()


async def test_we_call_one_who_is_busy(stack: SipStack, sipp: Sipp) -> None:
    uas = await sipp.start("busy", [Recv("INVITE"), reply("486 Busy Here"), Recv("ACK")], ("127.0.0.1", 9))
    await asyncio.sleep(0.5)
    assert outcome(await dial(stack, uas.port)) == ("ended", "busy", 486)
    await uas.wait()


# An INVITE whose Via, From and CSeq are kept: what SIPp received last is another message by then.
REMEMBERED = Recv(
    "INVITE",
    extra='<ereg regexp="SIP/2.0/UDP[^\\r]*" search_in="hdr" header="Via:" assign_to="via"/>'
    '<ereg regexp="&lt;[^\\r]*" search_in="hdr" header="From:" assign_to="caller"/>'
    '<ereg regexp="[0-9]+" search_in="hdr" header="CSeq:" assign_to="seq"/>',
)


CALLEE = "<sip:bob@127.0.0.1:[local_port];transport=udp>"


def answer_to_remembered(status: str, tag: str, body: str = "") -> Send:
    """A response to that INVITE."""
    text = reply(status, body=body, tag="").text
    text = text.replace("[last_To:]", f"To: {CALLEE};tag={tag}").replace("[last_From:]", "From: [$caller]")
    return Send(text.replace("[last_CSeq:]", "CSeq: [$seq] INVITE").replace("[last_Via:]", "Via: [$via]"))


def request_of_callee(method: str, tag: str, body: str) -> Send:
    """A request of SIPp's to the caller of that INVITE."""
    text = request(method, to_tag=True, body=body, again=True).text
    lines = (re.sub("^From: .*", f"From: {CALLEE};tag={tag}", line) for line in text.split("\n"))
    text = "\n".join(re.sub("^To: .*", "To: [$caller]", line) for line in lines)
    return Send(text, again=True)


async def test_a_forked_call(stack: SipStack, sipp: Sipp) -> None:
    steps: list[Step] = [
        REMEMBERED, reply("200 OK", body=UAS_ANSWER, tag="first"), Recv("ACK"),
        Pause(100), answer_to_remembered("200 OK", "second", UAS_ANSWER),
        Recv("ACK", ("To:.*tag=second",)), Recv("BYE", ("To:.*tag=second",)), reply("200 OK", tag=""),
        Recv("BYE", ("To:.*tag=first",)), reply("200 OK", tag=""),
    ]  # fmt: skip
    uas = await sipp.start("fork", steps, ("127.0.0.1", 9))
    await asyncio.sleep(0.5)
    call = await dial(stack, uas.port)
    assert call.state == "established"
    await asyncio.sleep(1.0)
    call.hangup()
    await uas.wait()


async def test_we_register_with_digest(tmp_path: Path) -> None:
    sipp = Sipp(tmp_path)
    steps: list[Step] = [
        Recv("REGISTER"),
        reply("401 Unauthorized",
              headers='WWW-Authenticate: Digest realm="test", nonce="47ebe028cda1", qop="auth", algorithm=MD5'),
        Recv("REGISTER", ("Authorization:",),
             extra='<verifyauth assign_to="ok" username="you" password="pw"/>'
                   '<log message="auth [$ok]"/>'),
        reply("200 OK", headers="Expires: 360"),
        Recv("REGISTER", ("Expires: 0",)), reply("200 OK", headers="Expires: 0"),
    ]  # fmt: skip
    uas = await sipp.start("registrar", steps, ("127.0.0.1", 9), port=free_port())
    await asyncio.sleep(0.5)
    registrar = f"sip:127.0.0.1:{uas.port}"
    account = Account("sip:you@127.0.0.1", "pw", registrar=registrar)
    async with running(account) as stack:
        await until(lambda: stack.registrations[0].registered)
        assert stack.registrations[0].expires == 360
    await uas.wait()
    assert "auth true" in (tmp_path / "registrar.log").read_text()


async def give_up_ringing(stack: SipStack, sipp: Sipp, name: str, steps: list[Step]) -> None:
    """Dial SIPp with this scenario and hang up while it rings: the call ends as one that we cancelled."""
    uas = await sipp.start(name, steps, ("127.0.0.1", 9))
    await asyncio.sleep(0.5)
    call = stack.dial(f"sip:bob@127.0.0.1:{uas.port};transport=udp", capabilities())
    await until(lambda: call.state == "ringing")
    call.hangup()
    await uas.wait()
    await until(lambda: call.state == "ended")
    assert outcome(call) == ("ended", "cancelled", 487)


async def test_our_cancel_crosses_the_answer(stack: SipStack, sipp: Sipp) -> None:
    """The 200 to the INVITE comes after our CANCEL: acknowledged and hung up."""
    steps: list[Step] = [
        REMEMBERED, reply("180 Ringing", tag="t"), Recv("CANCEL"), reply("200 OK", tag="t"),
        answer_to_remembered("200 OK", "t", UAS_ANSWER),
        Recv("ACK", ("To:.*tag=t",)), Recv("BYE", ("To:.*tag=t",)), reply("200 OK", tag=""),
    ]  # fmt: skip
    await give_up_ringing(stack, sipp, "crossing", steps)


async def test_our_cancel_is_heard(stack: SipStack, sipp: Sipp) -> None:
    steps: list[Step] = [
        REMEMBERED, reply("180 Ringing", tag="t"), Recv("CANCEL"), reply("200 OK", tag="t"),
        answer_to_remembered("487 Request Terminated", "t"), Recv("ACK", ("To:.*tag=t",)),
    ]  # fmt: skip
    await give_up_ringing(stack, sipp, "cancelled", steps)


async def test_reliable_early_media_is_confirmed(stack: SipStack, sipp: Sipp) -> None:
    steps: list[Step] = [
        REMEMBERED, reply("183 Session Progress", tag="t", headers="Require: 100rel\nRSeq: 7", body=UAS_ANSWER),
        Recv("PRACK", ("RAck: 7 [0-9]+ INVITE",)), reply("200 OK", tag=""),
        answer_to_remembered("200 OK", "t"), Recv("ACK"), Recv("BYE"), reply("200 OK", tag=""),
    ]  # fmt: skip
    uas = await sipp.start("early", steps, ("127.0.0.1", 9))
    await asyncio.sleep(0.5)
    call = await dial(stack, uas.port)
    assert outcome(call) == ("established", "", 0)
    assert call.media and call.media.audio and call.media.video
    call.hangup()
    await uas.wait()


async def test_the_callee_updates_before_it_answers(stack: SipStack, sipp: Sipp) -> None:
    """Its offer in UPDATE moves the audio and refuses the video; its 200 repeats nothing."""
    moved = (
        UAS_ANSWER.replace("audio 6000", "audio 6100")
        .replace("video 6002", "video 0")
        .replace("1 1 IN", "1 2 IN")
    )
    steps: list[Step] = [
        REMEMBERED, reply("183 Session Progress", tag="t", headers="Require: 100rel\nRSeq: 7", body=UAS_ANSWER),
        Recv("PRACK", ("RAck: 7 [0-9]+ INVITE",)), reply("200 OK", tag=""),
        request_of_callee("UPDATE", "t", moved), Recv(200, ("CSeq: 1 UPDATE", "m=audio 4000", "m=video 0")),
        Pause(100), answer_to_remembered("200 OK", "t"), Recv("ACK"), Recv("BYE"), reply("200 OK", tag=""),
    ]  # fmt: skip
    uas = await sipp.start("updating", steps, ("127.0.0.1", 9))
    await asyncio.sleep(0.5)
    call = await dial(stack, uas.port)
    assert outcome(call) == ("established", "", 0)
    assert call.media and call.media.audio and call.media.audio.remote[1] == 6100 and call.media.video is None
    call.hangup()
    await uas.wait()


async def test_we_call_over_a_trunk_that_challenges(tmp_path: Path) -> None:
    """401 (SIPp cannot check the answer to a 407), then the INVITE with credentials, an ACK for each."""
    sipp = Sipp(tmp_path)
    steps: list[Step] = [
        Recv("INVITE"),
        reply("401 Unauthorized",
              headers='WWW-Authenticate: Digest realm="trunk.example", nonce="47ebe0", qop="auth", algorithm=MD5'),
        Recv("ACK"),
        Recv("INVITE", ("Authorization:", "Route: <sip:127.0.0.1"),
             extra='<verifyauth assign_to="ok" username="you" password="pw"/><log message="auth [$ok]"/>'),
        reply("200 OK", body=UAS_ANSWER), Recv("ACK"), Recv("BYE"), reply("200 OK", tag=""),
    ]  # fmt: skip
    uas = await sipp.start("trunk", steps, ("127.0.0.1", 9))
    await asyncio.sleep(0.5)
    proxy = f"sip:127.0.0.1:{uas.port};transport=udp"
    account = Account("sip:you@trunk.example", "pw", proxies=(proxy,), register=False)
    async with running(account) as stack:
        call = stack.dial("+493012345", capabilities())
        await until(lambda: call.state in ("established", "ended"))
        assert (outcome(call), call.remote_uri) == (("established", "", 0), "sip:+493012345@trunk.example")
        call.hangup()
        await uas.wait()
    assert "auth true" in (tmp_path / "trunk.log").read_text()
