"""How large a message may be: what is larger is refused before it costs anything."""

from __future__ import annotations

import pytest

from orchestrator.sip.agent.policy import BYTES_PER_MESSAGE, SourcePolicy
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.parsing import MAX_DATAGRAM, MAX_VALUES, MalformedMessage, parse_message
from orchestrator.sip.sdp.description import MAX_ATTRIBUTES, MAX_MEDIA, SdpError, parse_sdp
from orchestrator.sip.transport.framing import MAX_HEAD, Framer, FramingError
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


@pytest.mark.parametrize("name", ["Via", "Route", "Record-Route", "Contact"])
def test_lists_are_bounded(name: str) -> None:
    value = {"Via": "SIP/2.0/UDP 127.0.0.9;branch=z9hG4bKv"}.get(name, "<sip:p@127.0.0.9;lr>")
    there = 1 if name in ("Via", "Contact") else 0
    parse_message(wire_bytes(f"{name}: " + ", ".join([value] * (MAX_VALUES - there))))
    with pytest.raises(MalformedMessage, match="values of"):
        parse_message(wire_bytes(f"{name}: " + ", ".join([value] * (MAX_VALUES + 1 - there))))


def test_descriptions_are_bounded() -> None:
    parse_sdp(sdp(*[AUDIO] * MAX_MEDIA))
    with pytest.raises(SdpError, match="too many m= lines"):
        parse_sdp(sdp(*[AUDIO] * (MAX_MEDIA + 1)))
    more = MAX_ATTRIBUTES - sdp(AUDIO).count("a=")
    parse_sdp(sdp(AUDIO + "a=x\n" * more))
    with pytest.raises(SdpError, match="too many a= lines"):
        parse_sdp(sdp(AUDIO + "a=x\n" * (more + 1)))


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
