"""RFC 4475: every torture message, what it must be answered with, and that nothing is left behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.message.grammar import parse_via
from orchestrator.sip.message.message import Response
from orchestrator.sip.message.parsing import MalformedMessage, parse_message
from orchestrator.sip.sdp.capabilities import AudioCapabilities, MediaCapabilities
from tests.support.sip_fake import Recorder, Wire, request, settle, statuses

MESSAGES = Path(__file__).parent / "rfc4475"
DROPPED = 0
ACCEPTED = 200

# message: (final status, or DROPPED), RFC 4475 section. We are a user agent server without a registrar:
# a well-formed REGISTER gets 405, before anything in it is judged.
EXPECTED: dict[str, tuple[int, str]] = {
    "wsinv": (481, "3.1.1.1 a short tortuous INVITE: valid, but its To tag names no dialog of ours"),
    "intmeth": (405, "3.1.1.2 wide range of valid characters: an unknown method"),
    "esc01": (ACCEPTED, "3.1.1.3 valid use of the % escape"),
    "escnull": (405, "3.1.1.4 escaped nulls in URIs"),
    "esc02": (405, "3.1.1.5 % not as an escape: RE%47IST%45R is no REGISTER"),
    "lwsdisp": (ACCEPTED, "3.1.1.6 no white space between display name and <"),
    "longreq": (ACCEPTED, "3.1.1.7 long values"),
    "dblreq": (405, "3.1.1.8 extra trailing octets: the INVITE after the REGISTER is not seen"),
    "semiuri": (ACCEPTED, "3.1.1.9 semicolon in the user part"),
    "transports": (ACCEPTED, "3.1.1.10 varied and unknown transports in Via"),
    "mpart01": (405, "3.1.1.11 multipart MESSAGE"),
    "unreason": (DROPPED, "3.1.1.12 unusual reason phrase"),
    "noreason": (DROPPED, "3.1.1.13 empty reason phrase"),
    "badinv01": (400, "3.1.2.1 extraneous separators"),
    "clerr": (400, "3.1.2.2 Content-Length larger than the message"),
    "ncl": (400, "3.1.2.3 negative Content-Length"),
    "scalar02": (400, "3.1.2.4 scalar fields with overlarge values"),
    "scalarlg": (DROPPED, "3.1.2.5 the same in a response"),
    "quotbal": (400, "3.1.2.6 unterminated quoted string"),
    "ltgtruri": (400, "3.1.2.7 <> around the Request-URI"),
    "lwsruri": (400, "3.1.2.8 white space in the Request-URI"),
    "lwsstart": (400, "3.1.2.9 several spaces in the request line"),
    "trws": (400, "3.1.2.10 spaces at the end of the request line"),
    "escruri": (400, "3.1.2.11 escaped headers in the Request-URI"),
    "baddate": (ACCEPTED, "3.1.2.12 Date not in GMT: not to be refused by one who ignores Date"),
    "regbadct": (405, "3.1.2.13 Contact of a REGISTER that needs <>"),
    "badaspec": (400, "3.1.2.14 spaces within addr-spec"),
    "baddn": (400, "3.1.2.15 non-token characters in a display name"),
    "badvers": (505, "3.1.2.16 unknown protocol version"),
    "mismatch01": (400, "3.1.2.17 CSeq method differs from the start line's"),
    "mismatch02": (400, "3.1.2.18 the same with an unknown method"),
    "bigcode": (DROPPED, "3.1.2.19 overlarge response code"),
    "badbranch": (ACCEPTED, "3.2.1 branch of the bare magic cookie: RFC 2543 matching"),
    "insuf": (400, "3.3.1 missing required headers"),
    "unkscm": (416, "3.3.2 unknown scheme in the Request-URI"),
    "novelsc": (416, "3.3.3 known but atypical scheme in the Request-URI"),
    "unksm2": (405, "3.3.4 unknown scheme in To and Contact of a REGISTER"),
    "bext01": (420, "3.3.5 Require and Proxy-Require"),
    "invut": (415, "3.3.6 unknown Content-Type"),
    "regaut01": (405, "3.3.7 unknown authorization scheme of a REGISTER"),
    "multi01": (400, "3.3.8 several values of single-value headers"),
    "mcl01": (400, "3.3.9 several Content-Length"),
    "bcast": (DROPPED, "3.3.10 a 200 with the broadcast address in Via"),
    "zeromf": (ACCEPTED, "3.3.11 Max-Forwards 0: this is where it was going"),
    "cparam01": (405, "3.3.12 unknown parameter in the Contact of a REGISTER"),
    "cparam02": (405, "3.3.12 the same inside <>"),
    "regescrt": (405, "3.3.13 escaped headers in the Contact of a REGISTER"),
    "sdp01": (406, "3.3.14 Accept without a type we can answer with"),
    "inv2543": (ACCEPTED, "3.4.1 an INVITE of RFC 2543"),
}


def pick_up(call: IncomingCall) -> None:
    call.ring()
    call.answer(MediaCapabilities("127.0.0.1", AudioCapabilities(4000)))


def test_the_table_is_complete() -> None:
    assert {path.stem for path in MESSAGES.glob("*.dat")} == set(EXPECTED)
    assert len(EXPECTED) == 49


@pytest.mark.parametrize("name", sorted(EXPECTED))
async def test_message(name: str) -> None:
    expected, _ = EXPECTED[name]
    wire = Wire(Recorder(on_call=pick_up))
    data = (MESSAGES / f"{name}.dat").read_bytes()
    replies = await wire.put(data)
    finals = [status for status in statuses(replies) if status >= 200]
    assert finals == ([expected] if expected != DROPPED else []), EXPECTED[name][1]
    for reply in replies:
        assert isinstance(reply, Response)
        assert reply.headers.all("Via")
    required = {405: "Allow", 415: "Accept", 420: "Unsupported"}.get(expected)
    assert required is None or required in replies[-1].headers

    # The process is alive, and nothing of the message outlives its timers.
    assert statuses(await wire.put(request("OPTIONS", call_id="alive"))) == [200]
    for call in list(wire.agent.calls.values()):
        call.hangup()
    for _ in range(30):
        await wire.pass_time(5)
    assert len(wire.agent.transactions) == 0
    assert not wire.agent.calls
    assert wire.clock.pending == 0
    await settle()


def test_the_tortuous_invite_is_read_rightly() -> None:
    message = parse_message((MESSAGES / "wsinv.dat").read_bytes())
    assert message.to.tag == "1918181833n"
    assert (message.from_.display, message.from_.tag) == ('J Rosenberg \\"', "98asjd8")
    assert message.cseq == (9, "INVITE")
    vias = [parse_via(value) for value in message.headers.values("Via")]
    assert [(via.transport, via.host, via.branch) for via in vias] == [
        ("UDP", "192.0.2.2", "390skdjuw"),
        ("TCP", "spindle.example.com", "z9hG4bK9ikj8"),
        ("UDP", "192.168.255.111", "z9hG4bK30239"),
    ]
    contact = message.contact()
    assert contact is not None
    assert contact.display == 'Quoted string ""'
    assert contact.params == {"newparam": "newvalue", "secondparam": None, "q": "0.33"}


async def test_the_tortuous_invite_without_its_to_tag_is_accepted() -> None:
    wire = Wire(Recorder(on_call=pick_up))
    data = (MESSAGES / "wsinv.dat").read_bytes().replace(b";   tag    = 1918181833n", b"")
    assert statuses(await wire.put(data)) == [100, 180, 200]


async def test_on_a_stream_broken_ones_leave_the_rest_alone() -> None:
    wire = Wire(Recorder(on_call=pick_up), transport="TCP")
    for name in sorted(EXPECTED):
        await wire.put((MESSAGES / f"{name}.dat").read_bytes())
    assert statuses(await wire.put(request("OPTIONS", call_id="alive", transport="TCP"))) == [200]


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_what_parses_survives_a_round_trip(name: str) -> None:
    data = (MESSAGES / f"{name}.dat").read_bytes()
    try:
        message = parse_message(data)
    except MalformedMessage:
        assert EXPECTED[name][0] in (400, 505, DROPPED)
        return
    again = parse_message(bytes(message))
    assert list(again.headers) == [
        *(h for h in message.headers if h[0] != "Content-Length"),
        *_length(message.body),
    ]
    assert again.body == message.body
    assert again.start_line() == message.start_line()


def _length(body: bytes) -> list[tuple[str, str]]:
    return [("Content-Length", str(len(body)))]
