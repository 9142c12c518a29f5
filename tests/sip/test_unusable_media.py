"""Media that a call cannot have: said before its final answer, and a call that goes on has what it had."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from orchestrator.sip.sdp.capabilities import NotAcceptable
from orchestrator.sip.sdp.session import SdpSession
from tests.support.sip_fake import (
    AUDIO,
    VIDEO,
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

SILENT = {
    "only a picture": sdp(VIDEO),
    "the voice refused": sdp("m=audio 0 RTP/AVP 0\n", VIDEO),
    "everything refused": sdp("m=audio 0 RTP/AVP 0\n", "m=video 0 RTP/AVP 96\n"),
    "only slides and keys": sdp("m=application 6010 UDP/BFCP *\n", VIDEO + "a=content:slides\n"),
}
IPV6 = sdp(AUDIO, VIDEO).replace("IN IP4 127.0.0.9", "IN IP6 ::1")


def described(text: str) -> list[str]:
    """The lines of a description without its origin."""
    return [line for line in text.splitlines() if not line.startswith("o=")]


def version(text: str) -> int:
    return int(text.partition("\no=")[2].split()[2])


@pytest.mark.parametrize("offer", SILENT.values(), ids=SILENT.keys())
async def test_an_offer_without_a_voice_is_answered_488(offer: str) -> None:
    wire = Wire()
    refused = only(await wire.put(request("INVITE", body=offer)), 488)
    assert "no voice" in (refused.headers.get("Warning") or "") or "no stream" in str(
        refused.headers.get("Warning")
    )


@pytest.mark.parametrize("offer", [*SILENT.values(), IPV6], ids=[*SILENT.keys(), "IPv6"])
async def test_a_new_offer_without_a_voice_leaves_the_call_as_it_was(offer: str) -> None:
    wire = Wire()
    tag = await established(wire)
    (call,) = wire.handler.calls
    before, own = call.media, call.capabilities
    wire.handler.caps = replace(own, hold=True)
    for seq, method in ((2, "INVITE"), (3, "UPDATE")):
        again = request(method, branch=f"z9hG4bK{seq}", seq=seq, to_tag=tag, body=offer)
        assert statuses(await wire.put(again)) == [488]
        await wire.put(request("ACK", branch=f"z9hG4bK{seq}", seq=seq, to_tag=tag))
    assert (call.state, call.media, call.capabilities) == ("established", before, own)
    assert wire.handler.media == []


@pytest.mark.parametrize(
    "body", ["", SILENT["the voice refused"], sdp(AUDIO, address="255.255.255.255"), "v=1\n", IPV6]
)
async def test_an_unusable_answer_in_the_ack_of_a_reinvite_leaves_the_call_as_it_was(body: str) -> None:
    wire = Wire()
    tag = await established(wire)
    (call,) = wire.handler.calls
    before = call.media
    only(await wire.put(request("INVITE", branch="z9hG4bK2", seq=2, to_tag=tag)), 200)
    assert await wire.put(request("ACK", branch="z9hG4bK2a", seq=2, to_tag=tag, body=body)) == []
    assert (call.state, call.media, wire.handler.media) == ("established", before, [])
    held = request("INVITE", branch="z9hG4bK3", seq=3, to_tag=tag, body=sdp(AUDIO, VIDEO, version=2))
    assert statuses(await wire.put(held)) == [200]


async def test_voice_at_an_address_of_the_other_family_is_answered_488() -> None:
    wire = Wire()
    refused = only(await wire.put(request("INVITE", body=IPV6)), 488)
    assert "IPv6" in (refused.headers.get("Warning") or "")


def test_of_another_family_only_what_is_needed_is_refused() -> None:
    session = SdpSession()
    session.answer(sdp(AUDIO, VIDEO + "c=IN IP6 2001:db8::1\n"), capabilities())
    assert session.media and session.media.audio and session.media.video is None
    session.answer(sdp(AUDIO + "a=rtcp:6101 IN IP6 ::1\n"), capabilities())
    assert session.media.audio and session.media.audio.remote_rtcp == ("127.0.0.9", 6101)
    session.answer(sdp(AUDIO + "c=IN IP6 ::ffff:127.0.0.8\n"), capabilities())
    assert session.media.audio and session.media.audio.remote == ("127.0.0.8", 6000)
    session.answer(sdp(AUDIO + "c=IN IP6 ::\n"), capabilities())
    assert session.media.audio and session.media.on_hold
    with pytest.raises(NotAcceptable, match="IPv4"):
        session.answer(sdp(AUDIO), replace(capabilities(), address="2001:db8::5"))


async def test_a_refused_offer_of_ours_is_not_what_a_refresh_repeats() -> None:
    wire = Wire()
    await established(wire)
    (call,) = wire.handler.calls
    agreed = call.session.local_text
    for answer in ((488, ""), (200, SILENT["the voice refused"])):
        task = asyncio.ensure_future(call.reoffer(replace(capabilities(), hold=True)))
        await settle()
        offer = only_request(wire.take(), "INVITE")
        assert b"a=sendonly" in offer.body
        await wire.put(reply_to(offer, answer[0], body=answer[1]))
        with pytest.raises(NotAcceptable):
            await task
        assert not call.session.offer_pending
        assert described(call.session.local_text) == described(agreed)
        assert version(offer.body.decode()) < version(call.session.local_text)
