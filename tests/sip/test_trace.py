"""SIP traces: every message of a call that somebody asked for, and no secret in them."""

from __future__ import annotations

import pytest

from orchestrator.sip.transport.trace import Tracer
from tests.sip.test_outgoing import ANSWER, dial
from tests.support.sip_fake import (
    AUDIO,
    VIDEO,
    Wire,
    established,
    only_request,
    reply_to,
    request,
    sdp,
    settle,
)

CRYPTO = "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz\n"


async def test_a_trace_holds_the_messages_but_no_password() -> None:
    wire = Wire()
    wire.agent.tracer.upcoming = 1
    await established(
        wire, body=sdp(AUDIO + CRYPTO, VIDEO), headers='Authorization: Digest response="secret"'
    )
    trace = wire.handler.calls[0].trace
    assert trace is not None
    starts = [(entry.direction, entry.data.split(b" ")[0]) for entry in trace.entries()]
    assert starts == [("in", b"INVITE"), ("out", b"SIP/2.0"), ("out", b"SIP/2.0"), ("in", b"ACK")]
    assert "secret" not in trace.text()
    assert "WVNfX19" not in trace.text()
    await wire.put(request("INVITE", branch="z9hG4bKn", call_id="c2", body=sdp(AUDIO, VIDEO)))
    assert wire.handler.calls[1].trace is None  # one call was asked for


def test_folded_credentials_are_blanked_too() -> None:
    tracer = Tracer(10)
    trace = tracer.follow("c9")
    head = b'ACK sip:x SIP/2.0\r\nAuthorization: Digest username="a",\r\n response="secret"\r\ni: c9\r\n\r\n'
    tracer.note("in", ("127.0.0.9", 5060), head)
    (entry,) = trace.entries()
    assert entry.data == (b"ACK sip:x SIP/2.0\r\nAuthorization: (removed)\r\n (removed)\r\ni: c9\r\n\r\n")


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        (b"Signal=7\r\nDuration=160\r\n", b"Signal=(removed)\r\nDuration=160\r\n"),
        (b"Duration= 90\r\n signal = *\r\n", b"Duration= 90\r\n signal = (removed)\r\n"),
        (b"7", b"(removed)"),
        (b"11\r\n", b"(removed)\r\n"),
        (b"v=0\r\nc=IN IP4 127.0.0.1\r\n", b"v=0\r\nc=IN IP4 127.0.0.1\r\n"),
        (b"", b""),
    ],
)
@pytest.mark.parametrize("form", [b"%s\r\n%s\r\n\r\n", b"\r\n\r\n%s\r\n%s\r\n\r\n", b"%s\n%s\n\n"])
def test_keys_are_blanked_too(body: bytes, kept: bytes, form: bytes) -> None:
    """Also in messages that begin with a keep-alive, or have line ends of another kind, which are read, too."""
    tracer = Tracer(10)
    trace = tracer.follow("c9")
    head = form % (b"INFO sip:x SIP/2.0", b"i: c9")
    tracer.note("in", ("127.0.0.9", 5060), head + body)
    (entry,) = trace.entries()
    assert entry.data == head + kept


def test_ice_passwords_are_blanked_too() -> None:
    tracer = Tracer(10)
    trace = tracer.follow("c9")
    body = b"INVITE sip:x SIP/2.0\r\ni: c9\r\n\r\nv=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:seeded\r\n"
    tracer.note("in", ("127.0.0.9", 5060), body)
    assert "seeded" not in trace.text()
    assert "a=ice-ufrag:abcd" in trace.text()


async def test_a_trace_holds_what_comes_before_and_after_the_dialog() -> None:
    wire = Wire()
    wire.agent.tracer.upcoming = None
    call, invite = await dial(wire)
    await wire.put(reply_to(invite, 180))
    await wire.put(reply_to(invite, 200, body=ANSWER))
    call.hangup()
    await settle()
    await wire.put(reply_to(only_request(wire.take(), "BYE"), 200))
    assert call.state == "ended" and call.trace is not None
    seen = [f"{e.direction} {e.data.split(b' sip:')[0].decode()[:11]}" for e in call.trace.entries()]
    assert seen == ["out INVITE", "in SIP/2.0 180", "in SIP/2.0 200", "out ACK", "out BYE", "in SIP/2.0 200"]


async def test_a_trace_is_bounded_and_starts_when_asked_for() -> None:
    wire = Wire()
    tag = await established(wire)
    call = wire.handler.calls[0]
    trace = call.start_trace()
    assert call.start_trace() is trace
    for number in range(wire.agent.config.trace_messages):
        await wire.put(request("OPTIONS", branch=f"z9hG4bKo{number}", seq=2 + number, to_tag=tag))
    assert len(trace.entries()) == wire.agent.config.trace_messages
