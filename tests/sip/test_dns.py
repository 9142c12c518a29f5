"""RFC 3263: from a URI to the servers to try, over a DNS server of the test's own, and what fails on the way."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.sip.agent.registration import Registration
from orchestrator.sip.config import Account, SipConfig
from orchestrator.sip.message.grammar import parse_uri
from orchestrator.sip.message.message import Request
from orchestrator.sip.sdp.capabilities import AudioCapabilities, MediaCapabilities
from orchestrator.sip.stack import SipStack
from orchestrator.sip.transaction.timers import PATIENCE_SECONDS
from orchestrator.sip.transport.dns import Resolver
from orchestrator.sip.transport.flow import Flow
from orchestrator.sip.transport.locate import Hop, locate
from testing.ports import free_port
from tests.peers.zone import Zone
from tests.sip.test_outgoing import ANSWER, dial
from tests.support.sip_fake import Recorder, Wire, only_request, reply_to, settle
from tests.support.waiting import until

RECORDS = {
    ("full.test", "NAPTR"): [
        '20 50 "s" "SIP+D2T" "" _sip._tcp.full.test.',
        '10 50 "s" "SIPS+D2T" "" _sips._tcp.full.test.',
        '30 50 "s" "SIP+D2U" "" _sip._udp.full.test.',
        '5 50 "s" "SIP+D2S" "" _sip._sctp.full.test.',
    ],
    ("_sips._tcp.full.test", "SRV"): ["0 1 5071 b.full.test."],
    ("_sip._tcp.full.test", "SRV"): ["10 1 5072 b.full.test.", "5 1 5073 a.full.test."],
    ("_sip._udp.full.test", "SRV"): ["0 1 5074 a.full.test."],
    ("a.full.test", "A"): ["127.0.0.11"],
    ("b.full.test", "A"): ["127.0.0.12"],
    ("full.test", "A"): ["127.0.0.13"],
    ("srv.test", "A"): ["127.0.0.14"],
    ("_sip._udp.srv.test", "SRV"): ["0 1 5080 a.full.test."],
    ("_sip._tcp.srv.test", "SRV"): ["0 1 5081 b.full.test."],
    ("plain.test", "A"): ["127.0.0.15", "127.0.0.16"],
    ("plain.test", "AAAA"): ["::1"],
    ("none.test", "A"): ["127.0.0.17"],
    ("_sip._udp.none.test", "SRV"): ["0 0 0 ."],
}
A, B = "127.0.0.11", "127.0.0.12"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (
            "sip:x@full.test",
            [
                Hop("TLS", B, 5071, "full.test"),
                Hop("TCP", A, 5073, "full.test"),
                Hop("TCP", B, 5072, "full.test"),
                Hop("UDP", A, 5074, "full.test"),
            ],
        ),
        ("sips:x@full.test", [Hop("TLS", B, 5071, "full.test")]),
        ("sip:x@full.test;transport=udp", [Hop("UDP", A, 5074, "full.test")]),
        ("sip:x@full.test:5099", [Hop("UDP", "127.0.0.13", 5099, "full.test", False)]),
        ("sip:x@full.test;maddr=127.0.0.20", [Hop("UDP", "127.0.0.20", 5060, "full.test", False)]),
        ("sip:x@srv.test", [Hop("UDP", A, 5080, "srv.test"), Hop("TCP", B, 5081, "srv.test")]),
        (
            "sip:x@plain.test;transport=tcp",
            [Hop("TCP", host, 5060, "plain.test") for host in ("127.0.0.15", "127.0.0.16", "::1")],
        ),
        (
            "sips:x@plain.test",
            [Hop("TLS", h, 5061, "plain.test") for h in ("127.0.0.15", "127.0.0.16", "::1")],
        ),
        ("sip:x@none.test", [Hop("UDP", "127.0.0.17", 5060, "none.test", False)]),
        ("sip:x@127.0.0.1", [Hop("UDP", "127.0.0.1", 5060, "127.0.0.1", False)]),
        ("sip:x@[::1]:5070;transport=tcp", [Hop("TCP", "::1", 5070, "::1")]),
    ],
)
async def test_servers_of_a_uri(uri: str, expected: list[Hop]) -> None:
    async with Zone(RECORDS) as zone:
        hops = await locate(parse_uri(uri), Resolver(zone.at))
    assert sorted(hops[:3], key=str) == sorted(expected[:3], key=str) if "plain" in uri else hops == expected


@pytest.mark.parametrize("uri", ["sip:x@nowhere.test", "sip:x@full.test;transport=sctp", "tel:+4930"])
async def test_no_way(uri: str) -> None:
    async with Zone(RECORDS) as zone:
        with pytest.raises(OSError, match=r"no address|no transport|no way"):
            await locate(parse_uri(uri), Resolver(zone.at))


async def test_names_of_the_system_and_answers_that_are_kept() -> None:
    hops = await locate(parse_uri("sip:x@localhost:5090"), Resolver())
    assert {hop.host for hop in hops} <= {"127.0.0.1", "::1"}
    async with Zone(RECORDS) as zone:
        names = Resolver(zone.at)
        first = await locate(parse_uri("sip:x@srv.test"), names)
        asked = len(zone.questions)
        zone.fault = "servfail"
        assert await locate(parse_uri("sip:x@srv.test"), names) == first
        assert len(zone.questions) == asked


async def test_a_dns_server_that_fails_or_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence, not a traceback; and for a while nobody waits for it again."""
    monkeypatch.setattr("orchestrator.sip.transport.dns.LIFETIME_SECONDS", 0.3)
    async with Zone(RECORDS) as zone:
        for fault, name in (("servfail", "full.test"), ("silent", "srv.test")):
            zone.fault = fault  # type: ignore[assignment]
            names = Resolver(zone.at)
            with pytest.raises(OSError, match=f"no DNS server answers for {name}"):
                await locate(parse_uri(f"sip:x@{name}"), names)
            asked = zone.asked
            with pytest.raises(OSError, match="no DNS server answers"):
                await locate(parse_uri(f"sip:x@{name}"), names)
            assert zone.asked == asked > 0


async def test_a_call_to_a_domain_reaches_its_second_server() -> None:
    """Nobody listens at the first that SRV names; the SDP carries the address we dial from."""
    callee = SipStack(SipConfig(udp=(), tcp=("127.0.0.2:0",)), Recorder())
    await callee.start()
    _, port = callee.addresses["TCP"][0]
    zone = Zone(
        {
            ("call.test", "NAPTR"): ['1 1 "s" "SIP+D2T" "" _sip._tcp.call.test.'],
            ("_sip._tcp.call.test", "SRV"): [
                f"1 1 {free_port()} one.call.test.",
                f"2 1 {port} two.call.test.",
            ],
            ("one.call.test", "A"): ["127.0.0.2"],
            ("two.call.test", "A"): ["127.0.0.2"],
        }
    )
    async with zone:
        config = SipConfig(udp=("127.0.0.3:0",), tcp=("127.0.0.3:0",), nameserver=zone.at)
        caller = SipStack(config, Recorder())
        await caller.start()
        call = caller.dial("sip:anna@call.test", MediaCapabilities("", AudioCapabilities(4000)))
        await until(lambda: call.state in ("established", "ended"))
        assert (call.state, call.source) == ("established", ("127.0.0.2", port)), call.cause
        (answered,) = callee.calls.values()
        assert answered.media and answered.media.audio
        assert answered.media.audio.remote == ("127.0.0.3", 4000)
        assert answered.remote_uri == "sip:visavis@127.0.0.3"
        call.hangup()
        await until(lambda: not callee.calls)
        await caller.close()
    await callee.close()


TWO = [Hop("UDP", "127.0.0.31", 5060), Hop("UDP", "127.0.0.32", 5060)]


async def test_a_silent_server_is_dialled_last_for_a_while() -> None:
    wire = Wire()
    wire.hops = list(TWO)
    call, _ = await dial(wire)
    await wire.pass_time(PATIENCE_SECONDS)
    assert (call.source[0], call.state) == ("127.0.0.32", "new")
    await wire.pass_time(33)  # the last one is waited for in full
    assert call.cause and (call.cause.kind, call.cause.status) == ("no_answer", 408)
    wire.hops.append(Hop("UDP", "127.0.0.33", 5060))
    call, invite = await dial(wire)
    assert call.source[0] == "127.0.0.33"
    await wire.put(reply_to(invite, 486))
    await wire.pass_time(61)
    call, _ = await dial(wire)
    assert call.source[0] == "127.0.0.31"


@pytest.mark.parametrize("answered", [False, True])
async def test_a_server_that_answers_too_late_is_turned_away(answered: bool) -> None:
    """Whether or not the next one has answered meanwhile: CANCEL for its 180, ACK and BYE for its 200."""
    wire = Wire()
    wire.hops = list(TWO)
    call, first = await dial(wire)
    sent = await wire.pass_time(PATIENCE_SECONDS)
    second = next(m for m in sent if isinstance(m, Request) and m.cseq[0] > first.cseq[0])
    if answered:
        await wire.put(reply_to(second, 200, body=ANSWER).replace(";tag=peer", ";tag=second"))
        assert call.state == "established"
    cancel = only_request(await wire.put(reply_to(first, 180)), "CANCEL")
    assert (cancel.via.branch, cancel.cseq[0]) == (first.via.branch, first.cseq[0])
    await wire.put(reply_to(cancel, 200))
    late = await wire.put(reply_to(first, 200, body=ANSWER))
    assert [(m.method, m.to.tag) for m in late if isinstance(m, Request)] == [
        ("ACK", "peer"),
        ("BYE", "peer"),
    ]
    again = await wire.put(reply_to(first, 200, body=ANSWER))
    assert [m.method for m in again if isinstance(m, Request)] == ["ACK"]
    if not answered:
        await wire.put(reply_to(second, 200, body=ANSWER).replace(";tag=peer", ";tag=second"))
    assert (call.state, call.dialog.remote_tag) == ("established", "second")
    assert [name for name, _ in wire.handler.events if name in ("established", "ended")] == ["established"]


async def test_a_registrar_with_two_servers() -> None:
    wire = Wire()
    wire.hops = list(TWO)
    registration = Registration(wire.agent.client, Account("sip:me@trunk.test", "pw"))
    task = asyncio.ensure_future(registration.register(300))
    await settle()
    wire.clock.advance(PATIENCE_SECONDS)
    await settle()
    remote, _ = wire.sent[-1]
    assert remote == ("127.0.0.32", 5060)
    wire.clock.advance(31)  # the last one is waited for in full, and the first is asked no more
    await settle()
    assert {remote for remote, data in wire.sent[-5:]} == {("127.0.0.32", 5060)} and not task.done()
    register = [m for m in wire.take() if isinstance(m, Request)][-1]
    await wire.put(reply_to(register, 200, headers="Expires: 300"))
    assert (await task).status == 200 and registration.registered
    for host in ("127.0.0.31", "127.0.0.32"):  # calls may come from both
        assert wire.agent.policy.may_call(host) and registration.trunk.owns(host)
    closing = asyncio.ensure_future(registration.close())
    await settle()
    assert wire.sent[-1][0] == ("127.0.0.32", 5060)  # the one that answered
    await wire.put(reply_to(only_request(wire.take(), "REGISTER"), 200))
    await closing


async def test_a_slow_registrar_that_said_something_is_waited_for() -> None:
    wire = Wire()
    wire.hops = list(TWO)
    registration = Registration(wire.agent.client, Account("sip:me@trunk.test", "pw"))
    task = asyncio.ensure_future(registration.register(300))
    await settle()
    register = only_request(wire.take(), "REGISTER")
    await wire.put(reply_to(register, 100))
    await wire.pass_time(20)
    await wire.put(reply_to(register, 200, headers="Expires: 300"))
    assert (await task).status == 200 and registration.registered


@pytest.mark.parametrize("closed", [False, True])
async def test_a_ping_goes_on_to_the_next_server(closed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the first one is silent or lets nobody connect."""
    wire = Wire()
    wire.hops = list(TWO)
    open_flow = wire.open_flow

    async def refuse_first(hop: Hop, *, size: int = 0) -> Flow:
        if closed and hop is TWO[0]:
            raise OSError("refused")
        return await open_flow(hop, size=size)

    monkeypatch.setattr(wire, "open_flow", refuse_first)
    account = Account("sip:me@trunk.test", "pw", proxies=("sip:trunk.test",), ping=30)
    trunk = Registration(wire.agent.client, account).trunk
    task = asyncio.ensure_future(trunk.run())
    await settle()
    if not closed:
        wire.clock.advance(PATIENCE_SECONDS)
        await settle()
    assert wire.sent[-1][0] == ("127.0.0.32", 5060)
    ping = [m for m in wire.take() if isinstance(m, Request)][-1]
    await wire.put(reply_to(ping, 200))
    sent = await wire.pass_time(30)
    assert only_request(sent, "OPTIONS")  # the next round starts in time
    task.cancel()
