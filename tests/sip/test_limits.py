"""How large a message may be: what is larger is refused before it costs anything."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable

import pytest

from bench.sip_cpu import KINDS, cost_ms, pieces_ms
from orchestrator.sip.agent.policy import BYTES_PER_MESSAGE, SourcePolicy
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.bodies import MAX_PARTS, sdp_body
from orchestrator.sip.message.grammar import (
    MAX_PARAMS,
    GrammarError,
    Params,
    parse_params,
    parse_uri,
    parse_via,
)
from orchestrator.sip.message.parsing import (
    MAX_COMMAS,
    MAX_DATAGRAM,
    MAX_FRAME,
    MAX_HEAD,
    MAX_HEADERS,
    MAX_VALUES,
    MalformedMessage,
    parse_message,
)
from orchestrator.sip.sdp.description import MAX_ATTRIBUTES, MAX_FORMATS, MAX_MEDIA, SdpError, parse_sdp
from orchestrator.sip.transport.framing import Framer, FramingError
from tests.support.sip_fake import AUDIO, PEER, Wire, request, sdp, statuses


def wire_bytes(headers: str = "", body: str = "") -> bytes:
    text = request("INVITE", headers=headers, body=body)
    return text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


def padded(size: int) -> bytes:
    head = wire_bytes(headers="X: y", body=sdp(AUDIO))
    return head.replace(b"X: y", b"X: y" + b"y" * (size - len(head)))


async def test_a_datagram_that_is_too_large_is_not_answered() -> None:
    wire = Wire()
    assert statuses(await wire.put(padded(MAX_DATAGRAM))) == [100, 200]
    wire = Wire()
    assert await wire.put(padded(MAX_DATAGRAM + 1)) == []


def test_a_stream_may_carry_more_but_no_larger_head() -> None:
    data = padded(MAX_DATAGRAM + 1)
    assert Framer().feed(data) == [data]
    parse_message(data, stream=True)
    with pytest.raises(FramingError):
        Framer().feed(padded(MAX_HEAD + 1000))


async def test_a_frame_may_carry_the_offer_of_a_browser_but_no_larger_head() -> None:
    async def answers(headers: str, body: int) -> list[int]:
        wire = Wire(transport="WS")
        data = wire_bytes(headers, sdp(AUDIO + "x=" + "y" * body + "\n"))
        wire.agent.receive(data.replace(b"SIP/2.0/UDP", b"SIP/2.0/WS"), wire.flow)
        return statuses(await wire.pass_time(0.0))

    assert await answers("X: y", 2 * MAX_DATAGRAM) == await answers("X: y", MAX_FRAME - 2000) == [100, 200]
    assert await answers("X: y", MAX_FRAME) == await answers("X: " + "y" * MAX_HEAD, 10) == []


@pytest.mark.parametrize(("name", "most"), MAX_VALUES.items())
def test_lists_are_bounded(name: str, most: int) -> None:
    value = {"Via": "SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKv"}.get(name, "<sip:p@127.0.0.9;lr>")
    there = 1 if name in ("Via", "Contact") else 0
    parse_message(wire_bytes(f"{name}: " + ", ".join([value] * (most - there))))
    with pytest.raises(MalformedMessage, match="values of"):
        parse_message(wire_bytes(f"{name}: " + ", ".join([value] * (most + 1 - there))))


@pytest.mark.parametrize("parse", [parse_params, lambda text: parse_uri(f"sip:a@b;{text}").params])
def test_parameters_are_bounded(parse: Callable[[str], Params]) -> None:
    assert len(parse(";".join(f"p{n}" for n in range(MAX_PARAMS)))) == MAX_PARAMS
    with pytest.raises(GrammarError, match="too many parameters"):
        parse(";".join(f"p{n}" for n in range(MAX_PARAMS + 1)))


def test_header_lines_are_bounded() -> None:
    there = len(wire_bytes().split(b"\r\n\r\n")[0].splitlines()) - 1
    parse_message(wire_bytes("\n".join(["X: y"] * (MAX_HEADERS - there))))
    with pytest.raises(MalformedMessage, match="too many headers"):
        parse_message(wire_bytes("\n".join(["X: y"] * (MAX_HEADERS + 1 - there))))


def test_values_of_a_line_are_bounded() -> None:
    parse_message(wire_bytes("Supported: " + "a," * MAX_COMMAS))
    with pytest.raises(MalformedMessage, match="too many values"):
        parse_message(wire_bytes("Supported: " + "a," * (MAX_COMMAS + 1)))


def test_descriptions_are_bounded() -> None:
    parse_sdp(sdp(*[AUDIO] * MAX_MEDIA))
    with pytest.raises(SdpError, match="too many m= lines"):
        parse_sdp(sdp(*[AUDIO] * (MAX_MEDIA + 1)))
    formats = "m=audio 6000 RTP/AVP" + " 0" * MAX_FORMATS
    assert len(parse_sdp(sdp(f"{formats}\n")).media[0].formats) == MAX_FORMATS
    with pytest.raises(SdpError, match="too many formats"):
        parse_sdp(sdp(f"{formats} 0\n"))
    more = MAX_ATTRIBUTES - sdp(AUDIO).count("a=")
    parse_sdp(sdp(AUDIO + "a=x\n" * more))
    with pytest.raises(SdpError, match="too many a= lines"):
        parse_sdp(sdp(AUDIO + "a=x\n" * (more + 1)))


@pytest.mark.parametrize(("before", "found"), [(0, True), (MAX_PARTS - 1, True), (MAX_PARTS, False)])
def test_parts_of_a_body_are_bounded(before: int, found: bool) -> None:
    part = "--b\nContent-Type: text/plain\n\nx\n"
    body = part * before + f"--b\nContent-Type: application/sdp\n\n{sdp(AUDIO)}\n" + part * 3 + "--b--\n"
    text = request("INVITE", body=body, content_type="multipart/mixed;boundary=b")
    message = parse_message(text.replace("\n", "\r\n").replace("\r\r", "\r").encode(), stream=True)
    assert (sdp_body(message) is not None) == found


LONG_S = 0.1
"""Of CPU, which is fifty times what bench.sip_cpu allows: what is slower grows with the square of the message."""


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_no_message_is_long_work(kind: object) -> None:
    _, costs = await cost_ms(kind, 2)  # type: ignore[arg-type]
    assert min(costs) < 1000 * LONG_S


def test_a_message_in_pieces_is_not_read_anew_with_each() -> None:
    for name, costs in pieces_ms(2000):
        assert sum(costs) < 1000 * LONG_S, name


def test_a_long_value_is_read_in_one_pass() -> None:
    for blanks in itertools.repeat(" " * 60_000, 2):
        began = time.thread_time()
        assert parse_via(f"SIP/2.0/UDP h{blanks};branch=b").host == "h"
        assert time.thread_time() - began < LONG_S


def admitted(policy: SourcePolicy, host: str, size: int, most: int = 10_000) -> int:
    return next((number for number in range(most) if not policy.admits(host, size)), most)


def test_a_source_has_octets_a_second_as_well_as_messages() -> None:
    now = 0.0
    policy = SourcePolicy(lambda: now, messages_per_second=100)
    assert admitted(policy, "10.0.0.1", 500) == 200
    assert admitted(policy, "10.0.0.2", 8192) == BYTES_PER_MESSAGE * 200 // 8192 == 50
    now = 1.0
    assert admitted(policy, "10.0.0.2", 8192) == 25


def test_a_source_has_milliseconds_of_work_a_second() -> None:
    now = 0.0
    policy = SourcePolicy(lambda: now, proxies=("10.0.0.9",))
    policy.trust("10.0.0.8")

    def looked_at(host: str) -> int:
        looked = 0
        while looked < 500 and policy.admits(host):
            policy.worked(host, 0.025)  # a hostile header
            looked += 1
        return looked

    assert looked_at("10.0.0.1") == 40 and looked_at("10.0.0.2") == 40  # a second at once, of each
    assert looked_at("10.0.0.8") == looked_at("10.0.0.9") == 500  # whose calls are many callers'
    now = 1.0
    assert looked_at("10.0.0.1") == 20


async def test_messages_are_measured() -> None:
    wire = Wire(config=SipConfig(proxies=()))
    before = wire.agent.policy._source(PEER[0])
    assert before is not None
    work = before.work
    await wire.put(request("OPTIONS"))
    assert before.work < work
