"""SIPp against the real stack over real sockets: the flows of RFC 3261 and its extensions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.stack import SipStack
from tests.peers.sipp import Pause, Recv, Send, Sipp, Step, ack, bye, offer, request
from tests.support.sip_fake import Recorder, capabilities
from tests.support.waiting import until

pytestmark = [pytest.mark.peer("sipp"), pytest.mark.process]


class Answering(Recorder):
    """Calls to `wait` ring, to `late` ring and are answered after a moment, all others are answered at once.

    Those to `early` ring with media and are answered once the caller has put them on hold.
    """

    async def on_invite(self, call: IncomingCall) -> None:
        self.calls.append(call)
        if call.user == "early":
            call.ring(183, capabilities())
            await until(lambda: call.media is not None and call.media.on_hold)
        if call.user in ("wait", "late"):
            call.ring()
        if call.user == "late":
            await asyncio.sleep(0.3)
        if call.user != "wait":
            call.answer(capabilities())


@pytest.fixture
async def stack() -> AsyncIterator[SipStack]:
    running = SipStack(SipConfig(udp=("127.0.0.1:0",), tcp=("127.0.0.1:0",)), Answering())
    await running.start()
    yield running
    await running.close()
    assert not running.calls


@pytest.fixture
def sipp(tmp_path: Path) -> Sipp:
    return Sipp(tmp_path)


def invite(**kwargs: object) -> Send:
    return request("INVITE", body=offer(), **kwargs)  # type: ignore[arg-type]


TRYING = Recv(100, optional=True)
EARLY = invite(again=True, headers="Supported: 100rel")
G729 = "v=0\nm=audio 6000 RTP/AVP 18\nc=IN IP4 [local_ip]\n"
ANSWERED = (
    "m=audio 4000 RTP/AVP 0 101",
    "m=video 4002 RTP/AVP 96",
    "packetization-mode=1",
    "a=rtcp-fb:\\* nack pli",
)
SCENARIOS: dict[str, tuple[str, list[Step]]] = {
    "call": ("anna", [invite(again=True), TRYING, Recv(200, ANSWERED), ack(), Pause(200), *bye(2)]),
    "ringing": ("late", [invite(again=True), TRYING, Recv(180), Recv(200, ANSWERED), ack(), *bye(2)]),
    "repeated_2xx": ("anna", [invite(), TRYING, Recv(200), Pause(1800), ack(), *bye(2)]),
    "repeated_invite": (
        "wait",
        [
            invite(branch="z9hG4bK[call_id]"), TRYING, Recv(180),
            invite(branch="z9hG4bK[call_id]"), Pause(200),
            request("CANCEL", branch="z9hG4bK[call_id]"), Recv(180, optional=True), Recv(200), Recv(487),
            ack(branch="z9hG4bK[call_id]"),
        ],
    ),
    "refusal_repeated": (
        "anna",
        [
            request("INVITE", body=G729, branch="z9hG4bK[call_id]"),
            TRYING, Recv(488, ("Warning:",)), Pause(700), ack(branch="z9hG4bK[call_id]"),
        ],
    ),
    "late_offer": (
        "anna",
        [
            request("INVITE", again=True), TRYING, Recv(200, ("m=audio 4000", "m=video 4002")),
            ack(body=offer().replace("RTP/AVP 96", "RTP/AVP 97").replace(":96 ", ":97 ")), Pause(200), *bye(2),
        ],
    ),
    "hold": (
        "anna",
        [
            invite(again=True), TRYING, Recv(200), ack(),
            request("INVITE", seq=2, to_tag=True, body=offer("sendonly", 2), again=True),
            TRYING, Recv(200, ("a=recvonly",), absent=("a=sendrecv",)), ack(2),
            request("INVITE", seq=3, to_tag=True, body=offer("sendrecv", 3), again=True),
            TRYING, Recv(200, ("a=sendrecv",)), ack(3), *bye(4),
        ],
    ),
    "update": (
        "anna",
        [
            invite(again=True), TRYING, Recv(200), ack(),
            request("UPDATE", seq=2, to_tag=True, body=offer("inactive", 2), again=True),
            Recv(200, ("a=inactive",)), *bye(3),
        ],
    ),
    "codec_change": (
        "anna",
        [
            invite(again=True), TRYING, Recv(200, ("m=audio 4000 RTP/AVP 0 101",)), ack(),
            request("INVITE", seq=2, to_tag=True, body=offer(version=2).replace("RTP/AVP 0 8", "RTP/AVP 8"),
                    again=True),
            TRYING, Recv(200, ("m=audio 4000 RTP/AVP 8 101", "m=video 4002")), ack(2), *bye(3),
        ],
    ),
    "video_removed_and_added": (
        "anna",
        [
            invite(again=True), TRYING, Recv(200, ANSWERED), ack(),
            request("INVITE", seq=2, to_tag=True, body=offer(version=2).replace("m=video 6002", "m=video 0"),
                    again=True),
            TRYING, Recv(200, ("m=video 0 ",)), ack(2),
            request("INVITE", seq=3, to_tag=True, body=offer(version=3), again=True),
            TRYING, Recv(200, ANSWERED), ack(3), *bye(4),
        ],
    ),
    "cancel_too_late": (
        "anna",
        [
            invite(branch="z9hG4bK[call_id]"), TRYING, Recv(200, ANSWERED),
            request("CANCEL", branch="z9hG4bK[call_id]"), Recv(200, ("CSeq: 1 CANCEL",)),
            ack(), Pause(200), *bye(2),
        ],
    ),
    "require": (
        "anna",
        [
            invite(headers="Require: nonsense", branch="z9hG4bK[call_id]"), TRYING,
            Recv(420, ("Unsupported: nonsense",)), ack(branch="z9hG4bK[call_id]"),
        ],
    ),
    "prack": (
        "late",
        [
            invite(again=True, headers="Require: 100rel"), TRYING,
            Recv(180, ("Require: 100rel", "RSeq: 1")),
            request("PRACK", seq=2, to_tag=True, headers="RAck: 1 1 INVITE"),
            Recv(200, ("CSeq: 2 PRACK",)), Recv(200, ("CSeq: 1 INVITE",)), ack(), *bye(3),
        ],
    ),
    "update_before_the_answer": (
        "early",
        [
            EARLY, TRYING, Recv(183, (*ANSWERED, "Require: 100rel", "RSeq: 1")),
            request("PRACK", seq=2, to_tag=True, headers="RAck: 1 1 INVITE"),
            Recv(200, ("CSeq: 2 PRACK",), absent=("m=audio",)),
            request("UPDATE", seq=3, to_tag=True, body=offer("sendonly", 2), again=True),
            Recv(200, ("CSeq: 3 UPDATE", "a=recvonly"), absent=("a=sendrecv",)),
            Recv(200, ("CSeq: 1 INVITE",), absent=("m=audio",)), ack(), *bye(4),
        ],
    ),
    "prack_with_an_offer": (
        "early",
        [
            EARLY, TRYING, Recv(183, (*ANSWERED, "Require: 100rel", "RSeq: 1")),
            request("PRACK", seq=2, to_tag=True, headers="RAck: 1 1 INVITE", body=offer("sendonly", 2)),
            Recv(200, ("CSeq: 2 PRACK", "a=recvonly"), absent=("a=sendrecv",)),
            Recv(200, ("CSeq: 1 INVITE",), absent=("m=audio",)), ack(), *bye(3),
        ],
    ),
    "session_timer": (
        "anna",
        [
            invite(headers="Supported: timer\nSession-Expires: 40", branch="z9hG4bK[call_id]"),
            TRYING, Recv(422, ("Min-SE: 90",)), ack(branch="z9hG4bK[call_id]"),
            request("INVITE", seq=2, body=offer(), headers="Supported: timer\nSession-Expires: 120\nMin-SE: 90"),
            TRYING, Recv(200, ("Session-Expires: 120;refresher=uac", "Require: timer")),
            ack(2), *bye(3),
        ],
    ),
    "options": ("anna", [request("OPTIONS"), Recv(200, ("Allow:.*INVITE", "Accept:.*sdp", "Supported:.*timer"))]),
    "info": (
        "anna",
        [
            invite(again=True), TRYING, Recv(200), ack(),
            Send(request("INFO", seq=2, to_tag=True).text.rstrip().replace(
                "Content-Length: [len]",
                "Content-Type: application/media_control+xml\nContent-Length: [len]",
            ) + "\n\n<media_control><vc_primitive><to_encoder><picture_fast_update/></to_encoder></vc_primitive>"
                "</media_control>"),
            Recv(200), *bye(3),
        ],
    ),
    "wrong_tag": (
        "anna",
        [
            Send(request("BYE", seq=5).text.replace(
                "To: <sip:[service]@[remote_ip]:[remote_port]>", "To: <sip:x@[remote_ip]>;tag=none")),
            Recv(481),
        ],
    ),
}  # fmt: skip


# What SIPp takes for repetitions it does not show: these are counted in the stack's own trace.
SENT_AGAIN = {"repeated_2xx": (b"SIP/2.0 200 OK", 4), "call": (b"SIP/2.0 200 OK", 2)}


@pytest.mark.parametrize("transport", ["u1", "t1"])
@pytest.mark.parametrize("name", sorted(SCENARIOS))
async def test_scenario(name: str, transport: str, stack: SipStack, sipp: Sipp) -> None:
    if transport == "t1" and name in ("refusal_repeated", "repeated_invite", "repeated_2xx"):
        transport = "u1"  # SIPp knows repetitions over UDP only
    user, steps = SCENARIOS[name]
    where = stack.addresses["UDP" if transport == "u1" else "TCP"][0]
    stack.trace_calls()
    await sipp.run(name, steps, where, user=user, options=("-t", transport))
    for _ in range(20):
        if not stack.calls:
            break
        await asyncio.sleep(0.05)
    assert not stack.calls
    sent = SENT_AGAIN.get(name)
    handler = stack.handler
    assert isinstance(handler, Recorder)
    assert len(handler.calls) == (0 if name in ("options", "wrong_tag", "require") else 1)
    if sent is not None and transport == "u1":
        trace = handler.calls[0].trace
        assert trace is not None
        starts = [entry.data.split(b"\r\n")[0] for entry in trace.entries() if entry.direction == "out"]
        assert starts.count(sent[0]) >= sent[1], starts


async def test_inbound_digest(tmp_path: Path) -> None:
    config = SipConfig(
        udp=("127.0.0.1:0",), tcp=(), users={"anna": "secret"}, digest_algorithms=("MD5", "SHA-256")
    )  # SIPp reads one challenge only
    stack = SipStack(config, Answering())
    await stack.start()
    steps: list[Step] = [
        invite(branch="z9hG4bK[call_id]"), Recv(401), ack(branch="z9hG4bK[call_id]"),
        request("INVITE", seq=2, body=offer(), headers="[authentication username=anna password=secret]"),
        TRYING, Recv(200), ack(2), *bye(3),
    ]  # fmt: skip
    try:
        await Sipp(tmp_path).run("digest", steps, stack.addresses["UDP"][0])
    finally:
        await stack.close()
