"""Admission through an agent on a fake clock, and through a real stack whose sources are loopback addresses."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from orchestrator.sip.config import Account, SipConfig
from orchestrator.sip.message.message import Request, Response
from orchestrator.sip.stack import SipStack
from orchestrator.sip.transport.flow import Flow
from testing.caller import CallFailed
from testing.caller.phone import offer
from testing.caller.signalling import Dialog
from tests.support.sip_fake import (
    AUDIO,
    PEER,
    Recorder,
    Wire,
    established,
    only,
    only_request,
    request,
    sdp,
    statuses,
)

OFFER = sdp(AUDIO)
ALONE = SipConfig(proxies=())  # the loopback is a source like any other


def flow_of(wire: Wire, host: str) -> Flow:
    return replace(wire.flow, remote=(host, 5099))


async def invite(wire: Wire, number: int, host: str = PEER[0]) -> list[Request | Response]:
    text = request("INVITE", body=OFFER, branch=f"z9hG4bK{host}-{number}", call_id=f"{host}-{number}")
    return await wire.put(text.replace(PEER[0], host), flow_of(wire, host))


def outcome(messages: list[Request | Response]) -> int:
    return statuses(messages)[-1]


async def acknowledge(wire: Wire, answer: Response, number: int, host: str = PEER[0]) -> None:
    text = request("ACK", branch="z9hG4bKack", to_tag=answer.to.tag or "", call_id=f"{host}-{number}")
    await wire.put(text.replace(PEER[0], host), flow_of(wire, host))


async def test_a_source_has_eight_calls_that_are_not_acknowledged() -> None:
    wire = Wire(config=ALONE)
    answers = [await invite(wire, number) for number in range(9)]
    assert [outcome(answer) for answer in answers] == [200] * 8 + [503]
    refused = only(answers[8], 503)
    assert "not acknowledged" in refused.reason and refused.headers.get("Retry-After") == "30"
    assert "refused" not in dict(wire.handler.events), "a source's own doing is not told"
    await acknowledge(wire, only(answers[0], 200), 0)
    assert outcome(await invite(wire, 9)) == 200


async def test_a_new_source_takes_the_line_of_the_one_that_holds_most() -> None:
    wire = Wire(config=replace(ALONE, max_calls=10))
    for number in range(4):
        assert outcome(await invite(wire, number, "127.0.0.66")) == 200
        wire.clock.advance(0.01)
    oldest = wire.handler.calls[0]
    answers = await invite(wire, 0, "127.0.0.2")
    assert outcome(answers) == 200
    bye = only_request(answers, "BYE")
    assert bye.call_id == "127.0.0.66-0" and "not acknowledged" in (bye.headers.get("Reason") or "")
    assert oldest.cause is not None and (oldest.cause.kind, oldest.cause.by) == ("no_ack", "us")
    assert outcome(await invite(wire, 9, "127.0.0.66")) == 503


async def test_a_call_that_still_rings_gives_way_with_a_final_answer() -> None:
    wire = Wire(Recorder(on_call=lambda call: call.ring()), replace(ALONE, max_calls=10))
    for number in range(4):
        await invite(wire, number, "127.0.0.66")
    answers = await invite(wire, 0, "127.0.0.2")
    gone = only(answers, 503)
    assert gone.call_id == "127.0.0.66-0" and gone.headers.get("Retry-After")
    assert 180 in statuses(answers)


async def test_the_ack_is_due_in_four_seconds_while_all_lines_are_taken() -> None:
    wire = Wire(config=SipConfig(max_calls=5))
    answers = [await invite(wire, number) for number in range(4)]
    for number in range(2):
        await acknowledge(wire, only(answers[number], 200), number)
    assert outcome(await invite(wire, 4)) == 200
    assert len(wire.agent.calls) == 5
    assert outcome(await invite(wire, 6)) == 503
    await wire.pass_time(4.1)
    assert outcome(await invite(wire, 7)) == 200
    ended = [call.cause.kind for call in wire.handler.calls if call.cause]
    assert ended == ["no_ack"] * 3 and len(wire.agent.calls) == 2 + 1


async def test_shares_bite_beyond_three_quarters_and_exempt_the_loopback() -> None:
    async def held(config: SipConfig) -> int:
        wire = Wire(config=replace(config, max_calls=20))
        for number in range(20):
            answers = await invite(wire, number)
            if outcome(answers) != 200:
                assert "share" in only(answers, 503).reason
                assert outcome(await invite(wire, 0, "127.0.0.2")) == 200
                return number
            await acknowledge(wire, only(answers, 200), number)
        return 20

    assert await held(ALONE) == 15
    assert await held(SipConfig()) == 20
    assert await held(replace(ALONE, proxies=(f"{PEER[0]}/32",))) == 20
    trunk = Account("sip:a@pbx.example", proxies=(f"sip:{PEER[0]}",), register=False)
    assert await held(replace(ALONE, accounts=(trunk,))) == 20


async def test_a_wrong_password_moves_nobody() -> None:
    wire = Wire(config=replace(ALONE, max_calls=10, trusted=("127.0.0.66",), users={"anna": "secret"}))
    for number in range(4):
        assert outcome(await invite(wire, number, "127.0.0.66")) == 200
    assert outcome(await invite(wire, 0, "127.0.0.2")) == 401
    assert len(wire.agent.calls) == 4


async def test_a_flood_is_answered_once_each() -> None:
    wire = Wire(config=replace(ALONE, invites_per_second=5))
    for number in range(40):
        await invite(wire, number)
    assert statuses(await wire.pass_time(4.0)).count(503) == 0
    again = request("INVITE", body=OFFER, branch=f"z9hG4bK{PEER[0]}-39", call_id=f"{PEER[0]}-39")
    assert statuses(await wire.put(again)) == [503], "its own repetition is answered the same"
    await wire.pass_time(2.0)
    assert len(wire.agent.transactions) <= 10


@pytest.mark.parametrize("longest", [14_400.0, 60.0])
async def test_no_call_lasts_for_ever(longest: float) -> None:
    config = SipConfig(session_expires=100_000, max_call_seconds=longest)
    wire = Wire(config=config)
    await established(wire, headers="Session-Expires: 90000;refresher=uas\nSupported: timer")
    await wire.pass_time(longest - 1)
    assert not [value for name, value in wire.handler.events if name == "ended"]
    bye = only_request(await wire.pass_time(1.5), "BYE")
    assert f"no call lasts longer than {longest:g} s" in (bye.headers.get("Reason") or "")
    assert (wire.handler.cause.kind, wire.handler.cause.by) == ("too_long", "us")


async def test_without_a_longest_length_a_call_goes_on() -> None:
    wire = Wire(config=SipConfig(max_call_seconds=0))
    await established(wire)
    await wire.pass_time(1e6)
    assert not [value for name, value in wire.handler.events if name == "ended"]


# -- with sockets --


@contextlib.asynccontextmanager
async def stack(config: SipConfig) -> AsyncIterator[tuple[SipStack, str]]:
    server = SipStack(replace(config, udp=("127.0.0.1:0",), tcp=()), Recorder())
    await server.start()
    try:
        yield server, f"sip:anna@127.0.0.1:{server.addresses['UDP'][0][1]}"
    finally:
        await server.close()


async def test_beside_a_thousand_invites_a_second_another_source_is_answered() -> None:
    async with stack(replace(ALONE, max_calls=20)) as (server, uri), Dialog(uri, "127.0.0.66") as pen:
        send, body = pen._send, offer("127.0.0.66", 4000, None)
        template = pen._request("INVITE", uri, f"<{uri}>", body, "application/sdp")
        done = asyncio.Event()

        async def pour() -> None:
            for number in range(2000):
                send(template.replace(pen._branch, f"b{number}").replace(pen._call_id, f"c{number}"))
                if number % 20 == 19:
                    await asyncio.sleep(0.02)
            done.set()

        pouring = asyncio.create_task(pour())
        await asyncio.sleep(0.3)
        answered = 0
        while not done.is_set():
            async with Dialog(uri, "127.0.0.2") as honest:
                await honest.invite(offer("127.0.0.2", 4000, None))
                answered += 1
            await asyncio.sleep(0.1)
        await pouring
        assert answered > 3
        held = [call.source[0] for call in server.calls.values()]
        assert held.count("127.0.0.66") <= 8


async def test_a_trunk_brings_thirty_calls_a_second() -> None:
    async with stack(replace(ALONE, max_calls=100, proxies=("127.0.0.7",))) as (server, uri):

        async def call() -> None:
            async with Dialog(uri, "127.0.0.7") as dialog:
                await dialog.invite(offer("127.0.0.7", 4000, None))
                await asyncio.sleep(1.0)

        async with asyncio.TaskGroup() as tasks:
            for _ in range(60):
                tasks.create_task(call())
                await asyncio.sleep(1 / 30)
        assert not server.calls


async def test_a_source_reads_why_it_gets_no_more() -> None:
    async with stack(replace(ALONE, max_calls=4)) as (_, uri), contextlib.AsyncExitStack() as held:
        for _ in range(3):
            dialog = await held.enter_async_context(Dialog(uri, "127.0.0.5"))
            await dialog.invite(offer("127.0.0.5", 4000, None))
        with pytest.raises(CallFailed, match=r"503 .*holds its share of the calls"):
            dialog = await held.enter_async_context(Dialog(uri, "127.0.0.5"))
            await dialog.invite(offer("127.0.0.5", 4000, None))
        other = await held.enter_async_context(Dialog(uri, "127.0.0.6"))
        await other.invite(offer("127.0.0.6", 4000, None))
