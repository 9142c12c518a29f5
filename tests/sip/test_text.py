"""Peers' text: whatever bytes come, every route and the webhook answer, and what is echoed is what came."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.sip.message.message import Response
from orchestrator.sip.message.parsing import parse_message
from orchestrator.sip.message.text import LONGEST, PeerText
from orchestrator.sip.transport.trace import Tracer
from tests.sip.test_outgoing import dial
from tests.support.control import Control
from tests.support.sip_fake import AUDIO, only_request, reply_to, request, sdp, settle
from visavis.service.logs import JsonFormatter
from visavis.service.text import escaped

BIDI = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\u061c"
HOSTILE = [
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc2\x9b31m",
    "\u202egpj".encode(),
    b"\x00\x1b[2J",
    b"a" * 5000,
    "ü山".encode(),
]
WORD = st.binary(min_size=1, max_size=40) | st.sampled_from(HOSTILE)


def fit(text: str) -> bool:
    """Whether a terminal, a log and a JSON encoder may have it."""
    text.encode("utf-8")
    return not any(char in BIDI or unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in text)


@given(
    st.text(st.characters(), max_size=400)
    | st.binary(max_size=400).map(lambda b: b.decode("utf-8", "surrogateescape"))
)
def test_peer_text_is_fit_bounded_and_made_once(text: str) -> None:
    made = PeerText(text)
    assert fit(made)
    assert len(made) <= LONGEST
    assert PeerText(str(made)) == made


def test_what_can_be_shown_is_shown_as_it_came() -> None:
    assert (
        PeerText("Jürgen Müller-Lüdenscheidt, 山田\u3000太郎, نرگس\u200cها 🙂")
        == "Jürgen Müller-Lüdenscheidt, 山田\u3000太郎, نرگس\u200cها 🙂"
    )
    assert PeerText(b"a\xff\xc2\x9b\x1b".decode("utf-8", "surrogateescape")) == r"a\xff\x9b\x1b"
    assert PeerText("\u202egpj.exe") == r"\u202egpj.exe"
    assert PeerText("x" * 1000) == "x" * (LONGEST - 1) + "…"
    assert escaped("a\nb\x00", lines=True) == "a\nb\\x00"


def invite(number: int, word: bytes) -> bytes:
    """An INVITE with that word wherever a peer may write; what breaks a line cannot stand there."""
    word = word.replace(b"\r", b"").replace(b"\n", b"")
    text = request(
        "INVITE",
        branch=f"z9hG4bK{number}",
        call_id=f"c{number}-HERE",
        body=sdp(AUDIO),
        headers="User-Agent: HERE",
    )
    data = (
        text.replace("\r\n", "\n")
        .replace("\n", "\r\n")
        .encode()
        .replace(b"<sip:peer@127", b'"HERE" <sip:HERE@127')
    )
    return data.replace(b"sip:anna@127.0.0.1 SIP", b"sip:HERE@127.0.0.1 SIP").replace(b"HERE", word)


def test_every_route_and_the_webhook_answer_whatever_a_caller_writes(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        house = runner.run(_open(tmp_path))
        numbers = iter(range(10**6))

        @settings(max_examples=60, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(WORD, WORD)
        @example(b"\xff", b"\xff")
        @example(b"\xc2\x9b", "\u202e".encode())
        def one(word: bytes, reason: bytes) -> None:
            runner.run(_call(house, next(numbers), word, reason))

        one()
        records = runner.run(house.api.get("/v1/records?limit=1000")).json()
        assert len(records) > 20  # not all were refused
        assert house.supervisor.failures == []
        runner.run(house.close())


async def _open(folder: Path) -> Control:
    house = Control(folder)
    house.start()
    return house


def following(method: str, data: bytes, answer: Response, cseq: int) -> bytes:
    """A request inside the call that ``data`` opened: ACK, BYE."""
    name = method.encode()
    head = data.partition(b"\r\n\r\n")[0].replace(b"INVITE", name)
    head = head.replace(b"z9hG4bK", b"z9hG4bK" + name).replace(b"CSeq: 1", b"CSeq: %d" % cseq)
    to = (answer.headers.get("To") or "").encode("utf-8", "surrogateescape")
    head = head.replace(b"To: <sip:anna@127.0.0.1>", b"To: " + to)
    lines = [
        line for line in head.split(b"\r\n") if not line.startswith((b"Content-Length", b"Content-Type"))
    ]
    return b"\r\n".join([*lines, b"Content-Length: 0", b"", b""])


async def _call(house: Control, number: int, word: bytes, reason: bytes) -> None:
    wire = house.wire
    before = {call.call_id for call in house.calls}
    data = invite(number, word)
    answers = [one for one in await wire.put(data) if isinstance(one, Response)]
    if answers and answers[-1].status == 200:
        await wire.put(following("ACK", data, answers[-1], 1))
    new = [call.call_id for call in house.calls if call.call_id not in before]
    if new and answers and answers[-1].status == 200:
        (call_id,) = new
        assert fit((await house.posts_of(call_id, "answered"))["caller"])
        await _all_routes(house, call_id)
        bye = following("BYE", data, answers[-1], 2)
        line = b"Reason: " + reason.replace(b"\r", b"").replace(b"\n", b"") + b"\r\nMax-Forwards"
        await wire.put(bye.replace(b"Max-Forwards", line))
        for call in list(wire.agent.calls.values()):
            call.shut_down()
        await settle()
        await house.posts_of(call_id, "ended")
        await _all_routes(house, call_id)


async def _all_routes(house: Control, call_id: str) -> None:
    own = [f"/v1/calls/{call_id}", f"/v1/records/{call_id}", f"/v1/calls/{call_id}/trace"]
    paths = [*own, "/v1/calls", "/v1/records", "/metrics", "/healthz", "/readyz", "/v1/avatars"]
    for path in paths:
        answer = await house.api.get(path)
        assert answer.status_code < 500, (path, answer.text)
        text = answer.content.decode("utf-8")
        assert fit(text.replace("\n", "").replace("\t", "")), path
        if path in ("/v1/calls", "/v1/records"):
            assert "not_shown" not in text


@pytest.mark.parametrize("reason", HOSTILE)
async def test_a_callees_reason_phrase_ends_up_in_the_record(reason: bytes, tmp_path: Path) -> None:
    house = Control(tmp_path)
    call, sent = await dial(house.wire)
    reply = reply_to(sent, 486).replace("\n", "\r\n").encode().replace(b"Fine", reason)
    await house.wire.put(reply)
    await settle()
    assert call.cause is not None and call.cause.kind == "busy"
    assert isinstance(call.cause.text, PeerText) and fit(call.cause.text)
    await house.close()


def test_what_is_echoed_is_what_came(tmp_path: Path) -> None:
    asyncio.run(_echo(tmp_path))


async def _echo(folder: Path) -> None:
    wire = Control(folder).wire
    data = invite(1, b"\xff\xed\xa0\x80").replace(
        b"Max-Forwards", b"Record-Route: <sip:\xff@127.0.0.9;lr>\r\nMax-Forwards"
    )
    wire.agent.receive(data, wire.flow)
    await settle()
    answer = next(sent for _, sent in wire.sent if sent.startswith(b"SIP/2.0 200"))
    for name in (b"Via", b"From", b"Call-ID", b"CSeq", b"Record-Route"):
        (line,) = [line for line in data.split(b"\r\n") if line.startswith(name + b":")]
        assert line.replace(b";rport", b"") in answer.replace(b";rport=5060;received=127.0.0.9", b""), name


def test_traces_and_reasons_are_fit() -> None:
    tracer = Tracer(10)
    trace = tracer.follow("c9")
    tracer.note("in", ("127.0.0.9", 5060), b"INVITE sip:\xff\x1b[2J\xc2\x9b@x SIP/2.0\r\nCall-ID: c9\r\n\r\n")
    assert r"sip:\xff\x1b[2J\x9b@x" in trace.text()
    assert fit(trace.text().replace("\n", ""))
    response = parse_message(
        b"SIP/2.0 486 Bu\xffsy\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\nFrom: <sip:a@b>\r\nTo: <sip:a@b>\r\n"
        b"Call-ID: c\r\nCSeq: 1 INVITE\r\n\r\n"
    )
    assert isinstance(response, Response) and response.reason == r"Bu\xffsy"


@given(st.text(st.characters(), max_size=80), st.binary(max_size=40))
def test_a_line_of_the_log_is_fit_whatever_is_logged(text: str, data: bytes) -> None:
    raw = data.decode("utf-8", "surrogateescape")
    record = logging.makeLogRecord({"msg": "event", "name": "visavis"})
    record.fields = {"text": text, "nested": {raw: [raw, ValueError(raw)]}, "error": ValueError(raw)}
    line = JsonFormatter().format(record)
    assert fit(line)
    json.loads(line)
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
    stream.write(line)


async def test_a_record_that_cannot_be_shown_is_shown_as_such(tmp_path: Path) -> None:
    house = Control(tmp_path)
    data = invite(1, b"x")
    answer = [one for one in await house.wire.put(data) if isinstance(one, Response)][-1]
    await house.wire.put(following("ACK", data, answer, 1))
    call = house.calls[0]
    call.signalling.sip.remote_uri = "\udcff"  # past the type that forbids it
    call.stats = {"heard": "\udcff"}
    shown = await house.api.get("/v1/calls")
    assert shown.status_code == 200
    assert shown.json() == [
        {"call_id": call.call_id, "not_shown": "it holds something that is no JSON: the log says what"}
    ]
    assert (
        await house.api.get("/v1/calls/\udcff".encode("utf-8", "surrogateescape").decode("latin-1"))
    ).status_code == 404
    await house.close()


async def test_requests_of_ours_go_where_the_peer_said(tmp_path: Path) -> None:
    """A Contact in bytes that are no UTF-8 is used as it came."""
    house = Control(tmp_path)
    data = (
        invite(1, b"x")
        .replace(b"Contact: <sip:peer", b"Contact: <sip:\xffpeer")
        .replace(b'Contact: "x" <sip:x', b"Contact: <sip:\xffx")
    )
    await house.wire.put(data)
    (call,) = house.wire.agent.calls.values()
    call.shut_down()
    await settle()
    raw = next(sent for _, sent in house.wire.sent if sent.startswith(b"BYE"))
    assert raw.startswith(b"BYE sip:\xffx@")
    only_request(house.wire.take(), "BYE")
    await house.close()
