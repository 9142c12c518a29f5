"""Messages that peers write otherwise than most: quotes, TABs, names, bodies within bodies."""

from __future__ import annotations

import pytest

from orchestrator.sip.message.grammar import GrammarError, parse_name_addr, parse_via
from orchestrator.sip.message.message import Response
from tests.support.sip_fake import AUDIO, VIDEO, Wire, only, request, sdp, statuses

OFFER = sdp(AUDIO, VIDEO)
VIA = "SIP/2.0/UDP 127.0.0.9:5099;branch=z9hG4bKa"


@pytest.mark.parametrize(
    "parameter",
    [
        ';x="a b"',
        ';x="a;b,c"',
        r';x="say \"hi\" \\"',
        ';x=""',
        ';x="token"',
        ";x=2001:db8::1",
        ";x",
    ],
)
async def test_via_parameters_come_back_as_they_went(parameter: str) -> None:
    wire = Wire()
    text = request("OPTIONS").replace(";rport", f"{parameter};rport")
    via = only(await wire.put(text), 200).headers.get("Via")
    assert via == f"{VIA}{parameter};rport=5099;received=127.0.0.9"


def test_a_quoted_branch_is_the_branch() -> None:
    assert parse_via('SIP/2.0/UDP a;branch="z9hG4bKq"').branch == "z9hG4bKq"


def test_a_via_parameter_with_one_quote_is_still_refused() -> None:
    with pytest.raises(GrammarError):
        parse_via('SIP/2.0/UDP a;x="b')


@pytest.mark.parametrize("space", ["\t", " \t ", "  ", "\n\t", "\n "])
async def test_white_space_in_cseq(space: str) -> None:
    wire = Wire()
    answer = only(await wire.put(request("OPTIONS").replace("CSeq: 1 ", f"CSeq: 1{space}")), 200)
    assert answer.cseq == (1, "OPTIONS")


@pytest.mark.parametrize("space", ["\xa0", "\u2003", "\x0b", ""])
async def test_other_white_space_is_none(space: str) -> None:
    wire = Wire()
    answer = await wire.put(request("OPTIONS").replace("CSeq: 1 ", f"CSeq: 1{space}"))
    assert statuses(answer) == [400]


@pytest.mark.parametrize(
    "name",
    ["Jörg Müller", "山田", "Anna (Office)", "anna@example.com", "Front Desk: 2nd [east]", "A/V & R&D = #1?"],
)
async def test_display_names_that_lack_their_quotes(name: str) -> None:
    wire = Wire()
    text = request("INVITE", body=OFFER).replace("From: <", f"From: {name} <")
    answer = only(await wire.put(text), 200)
    assert (answer.headers.get("From") or "").startswith(f"{name} <")
    (call,) = wire.handler.calls
    assert call.remote_name == name


@pytest.mark.parametrize(
    "value",
    [
        "Bell, A <sip:a@b>",
        "a;b <sip:a@b>",
        "a>b <sip:a@b>",
        'a"b <sip:a@b>',
        "a\\b <sip:a@b>",
        "a\x01 <sip:a@b>",
    ],
)
def test_separators_need_them(value: str) -> None:
    with pytest.raises(GrammarError):
        parse_name_addr(value)


def multipart(boundary: str, *parts: str) -> str:
    return "".join(f"--{boundary}\n{part}\n" for part in parts) + f"--{boundary}--\n"


def part(content_type: str, body: str) -> str:
    return f"Content-Type: {content_type}\n\n{body}"


def inner(boundary: str, *parts: str, kind: str = "multipart/mixed") -> str:
    return part(f"{kind}; boundary={boundary}", multipart(boundary, *parts))


TEXT, PLACE = part("text/plain", "hi"), part("application/pidf+xml", "<x/>")
SDP_PART = part("application/sdp", OFFER)
NESTED = {
    "alternative": multipart("b1", inner("b2", TEXT, SDP_PART, kind="multipart/alternative")),
    "boundary that begins alike": multipart("b", inner("b2", TEXT, SDP_PART)),
    "after a place": multipart("b1", PLACE, inner("in", SDP_PART, kind="Multipart/Related")),
    "folded type": multipart("b1", inner("in", SDP_PART).replace("; ", ";\n\t", 1)),
    "twice": multipart("b1", inner("b2", TEXT, inner("b3", SDP_PART))),
    "beside it": multipart("b1", inner("b2", TEXT), SDP_PART),
    "compact header": multipart("b1", inner("b2", SDP_PART.replace("Content-Type", "c"))),
}


def boundary_of(body: str) -> str:
    return body.partition("\n")[0].removeprefix("--")


@pytest.mark.parametrize("body", NESTED.values(), ids=NESTED.keys())
async def test_an_offer_in_a_multipart_in_a_multipart_is_answered(body: str) -> None:
    wire = Wire()
    kind = f"multipart/mixed;boundary={boundary_of(body)}"
    answer = only(await wire.put(request("INVITE", body=body, content_type=kind)), 200)
    assert b"m=audio 4000 RTP/AVP 0 101" in answer.body


async def test_line_ends_of_a_multipart_may_be_bare() -> None:
    wire = Wire()
    body = NESTED["after a place"].replace("\r\n", "\n")
    head = request("INVITE", body="x", content_type="multipart/mixed;boundary=b1")[:-1]
    head = head.replace("Content-Length: 1", f"Content-Length: {len(body)}")
    answer = only(await wire.put(head.replace("\n", "\r\n").encode() + body.encode()), 200)
    assert b"m=audio 4000 RTP/AVP 0 101" in answer.body


async def test_multiparts_without_end_are_not_followed() -> None:
    wire = Wire()
    body = SDP_PART
    for level in range(40):
        body = part(f"multipart/mixed;boundary=b{level}x", multipart(f"b{level}x", body))
    kind, _, body = body.removeprefix("Content-Type: ").partition("\n\n")
    assert only(await wire.put(request("INVITE", body=body, content_type=kind)), 200)


async def test_a_body_of_unknown_length_on_a_stream_is_no_late_offer() -> None:
    wire = Wire(transport="TCP")
    text = request("INVITE", body=OFFER, transport="TCP")
    head, _, _ = text.partition("\n\n")
    head = "\n".join(line for line in head.split("\n") if not line.startswith("Content-Length")) + "\n\n"
    (refused,) = await wire.put(head)
    assert isinstance(refused, Response) and refused.status == 400 and "Content-Length" in refused.reason
    bodiless = "\n".join(line for line in head.split("\n") if not line.startswith("Content-Type"))
    assert statuses(await wire.put(bodiless.replace("INVITE", "OPTIONS"))) == [200]
