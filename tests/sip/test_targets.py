"""Where media may go at all, and when: answered with the truth before anything is sent."""

from __future__ import annotations

import pytest

from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.sdp.targets import refusal
from tests.sip.test_outgoing import dial
from tests.support.sip_fake import (
    AUDIO,
    PEER,
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
    statuses,
)

SOURCE = "10.0.0.9"
FORBIDDEN = {
    "255.255.255.255": "broadcast",
    "239.1.2.3": "multicast",
    "224.0.0.1": "multicast",
    "127.0.0.1": "loopback",
    "127.8.8.8": "loopback",
    "::1": "loopback",
    "::ffff:127.0.0.1": "loopback",
    "169.254.169.254": "link-local",
    "fe80::1": "link-local",
    "ff02::1": "multicast",
    "0.0.0.1": "reserved",
    "250.1.1.1": "reserved",
    "phone.example": "no IP address",
}


@pytest.mark.parametrize("host", FORBIDDEN)
def test_what_is_no_machine_s_own_address_is_refused(host: str) -> None:
    assert FORBIDDEN[host] in str(refusal(host, SOURCE))


@pytest.mark.parametrize("host", ["10.0.0.9", "192.0.2.1", "2001:db8::5", "0.0.0.0", "::"])
def test_others_and_the_hold_of_rfc_2543_are_not(host: str) -> None:
    assert refusal(host, SOURCE) is None


def test_the_loopback_is_for_those_who_are_there_and_a_link_local_phone_names_itself() -> None:
    assert refusal("127.0.0.1", "127.0.0.9") is None and refusal("::1", "::1") is None
    assert refusal("169.254.7.7", "169.254.7.7") is None
    assert refusal("169.254.169.254", "169.254.7.7") == "a link-local address"


@pytest.mark.parametrize(
    "body",
    [
        sdp(AUDIO, address="255.255.255.255"),
        sdp(AUDIO, address="169.254.169.254"),
        sdp(AUDIO + "a=rtcp:53 IN IP4 224.0.0.1\n"),
        sdp(AUDIO, VIDEO.replace("96\n", "96\nc=IN IP4 255.255.255.255\n", 1)),
    ],
)
async def test_such_an_invite_is_answered_488_and_a_sentence(body: str) -> None:
    wire = Wire()
    answered = await wire.put(request("INVITE", body=body))
    assert statuses(answered) == [100, 488]
    assert "no media is sent to" in (only(answered, 488).headers.get("Warning") or "")
    assert wire.handler.media == []


async def test_a_new_offer_for_such_an_address_leaves_the_call_as_it_was() -> None:
    wire = Wire()
    tag = await established(wire)
    again = sdp(AUDIO, VIDEO, version=2, address="169.254.169.254")
    answered = await wire.put(request("INVITE", branch="z9hG4bKb", seq=2, to_tag=tag, body=again))
    assert statuses(answered) == [488]
    (call,) = wire.handler.calls
    assert call.media is not None and call.media.audio is not None
    assert call.media.audio.remote[0] == PEER[0]


async def test_an_answer_with_such_an_address_ends_a_call_of_ours() -> None:
    wire = Wire()
    _call, invite = await dial(wire)
    sent = await wire.put(reply_to(invite, 200, body=sdp(AUDIO, VIDEO, address="255.255.255.255")))
    assert only_request(sent, "BYE")
    assert (wire.handler.cause.kind, wire.handler.cause.status) == ("not_acceptable", 488)


async def test_prack_says_that_early_media_may_flow() -> None:
    class Early(Recorder):
        async def on_early(self, call: object) -> None:
            self.events.append(("early", None))

    def ring(call: IncomingCall) -> None:
        call.ring(183, capabilities())

    wire = Wire(Early(on_call=ring))
    progress = only(
        await wire.put(request("INVITE", body=sdp(AUDIO, VIDEO), headers="Supported: 100rel")), 183
    )
    assert ("early", None) not in wire.handler.events
    rack = f"RAck: {progress.headers.get('RSeq')} 1 INVITE"
    await wire.put(request("PRACK", branch="z9hG4bKp", seq=2, to_tag=progress.to.tag or "", headers=rack))
    assert ("early", None) in wire.handler.events


async def test_signalling_comes_from_where_the_peer_last_spoke() -> None:
    wire = Wire()
    await established(wire)
    (call,) = wire.handler.calls
    assert call.signalling_hosts == (PEER[0],)
