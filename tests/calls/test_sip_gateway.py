"""Calls by SIP as the API sees them: keys and transfers that a phone refuses, new offers, what a record keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.calls import registry
from orchestrator.sip.message.message import Request
from tests.support.control import Control
from tests.support.sip_fake import (
    AUDIO,
    VIDEO,
    established,
    only,
    only_request,
    reply_to,
    request,
    sdp,
    statuses,
)

VOICE = "m=audio 6000 RTP/AVP 0\na=rtpmap:0 PCMU/8000\n"
"""Without a way for keys in RTP."""


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[Control]:
    house = Control(tmp_path)
    yield house
    await house.close()


async def asked(house: Control, method: str) -> Request:
    """What the phone is asked next."""
    async with asyncio.timeout(10):
        while not house.wire.sent:
            await asyncio.sleep(0)
    return only_request(house.wire.take(), method)


async def test_what_a_phone_refuses_is_told_with_its_words(house: Control) -> None:
    await established(house.wire, body=sdp(VOICE))
    (call,) = house.calls
    pressing = asyncio.create_task(house.api.post(f"/v1/calls/{call.call_id}/dtmf", json={"digits": "5"}))
    await house.wire.put(reply_to(await asked(house, "INFO"), 415))
    answer = await pressing
    assert (answer.status_code, "takes no keys: it answered 415" in answer.json()["detail"]) == (409, True)

    moving = asyncio.create_task(house.api.post(f"/v1/calls/{call.call_id}/transfer", json={"to": "sip:x@y"}))
    refer = await asked(house, "REFER")
    assert refer.headers.get("Refer-To") == "<sip:x@y>"
    await house.wire.put(reply_to(refer, 603))
    answer = await moving
    assert (answer.status_code, answer.json()["detail"]) == (409, "the peer answered 603 Fine")

    answer = await house.api.post(f"/v1/calls/{call.call_id}/transfer", json={"to": "sip:"})
    assert (answer.status_code, "cannot be dialled" in answer.json()["detail"]) == (409, True)
    assert house.wire.take() == []


async def test_a_call_that_has_ended_is_gone(house: Control) -> None:
    tag = await established(house.wire, body=sdp(VOICE))
    (call,) = house.calls
    await house.wire.put(request("BYE", branch="z9hG4bKb", seq=2, to_tag=tag))
    for path, body in (("dtmf", {"digits": "5"}), ("transfer", {"to": "sip:x@y"}), ("say", {"text": "x"})):
        assert (await house.api.post(f"/v1/calls/{call.call_id}/{path}", json=body)).status_code == 410
    assert house.wire.take() == []


async def test_video_is_added_by_a_new_offer_and_the_record_keeps_sip(house: Control) -> None:
    tag = await established(house.wire, body=sdp(AUDIO))
    (call,) = house.calls
    assert (call.audio, call.video, call.srtp) == ("PCMU/8000", None, False)
    again = request("INVITE", branch="z9hG4bKr", seq=2, to_tag=tag, body=sdp(AUDIO, VIDEO, version=2))
    answer = only(await house.wire.put(again), 200)
    assert b"m=video 0" not in answer.body
    await house.wire.put(request("ACK", branch="z9hG4bKrack", seq=2, to_tag=tag))
    assert call.video is None  # what was agreed when it was answered
    await house.wire.put(request("BYE", branch="z9hG4bKb", seq=3, to_tag=tag))
    record = (await house.api.get(f"/v1/records/{call.call_id}")).json()
    told = {name: record[name] for name in ("sip_call_id", "sip_cause", "sip_status", "cause", "ended_by")}
    assert told == {
        "sip_call_id": "c1", "sip_cause": "hangup", "sip_status": 0, "cause": "bye by peer", "ended_by": "peer",
    }  # fmt: skip
    assert record["source"] == "127.0.0.9" and record["caller"] == "sip:peer@127.0.0.9"


async def test_a_call_that_nothing_can_be_agreed_with_is_refused_and_recorded(house: Control) -> None:
    house.start()
    offer = sdp("m=audio 6000 RTP/AVP 4\na=rtpmap:4 G723/8000\n")
    assert 488 in statuses(await house.wire.put(request("INVITE", body=offer)))
    assert house.calls == [] and house.registry.active == 0
    (record,) = (await house.api.get("/v1/records")).json()
    assert (record["cause"], record["sip_status"], record["answered_at"]) == ("not_acceptable", 488, None)


PREMIUM = "sip:+499001123456@127.0.0.9"
ELSEWHERE = "Contact: <sip:anna@127.0.0.4>, <sip:+4930123456@127.0.0.9>, <sip:ben@127.0.0.9>"
CONTACT = "Contact: <sip:peer@127.0.0.9:5099>"


async def test_the_api_calls_nobody_whom_the_dial_plan_does_not_allow(house: Control) -> None:
    answer = await house.api.post("/v1/calls", json={"to": PREMIUM})
    assert (answer.status_code, "premium" in answer.json()["detail"]) == (403, True)
    assert house.wire.take() == [] and house.registry.active == 0
    for _ in range(60):
        assert (await house.api.post("/v1/calls", json={"to": "sip:anna@127.0.0.9"})).status_code == 202
    answer = await house.api.post("/v1/calls", json={"to": "sip:anna@127.0.0.9"})
    assert (answer.status_code, "VISAVIS_DIAL_PER_MINUTE" in answer.json()["detail"]) == (429, True)
    assert house.registry.active == 60


async def test_nobody_is_sent_where_the_dial_plan_does_not_allow(house: Control) -> None:
    await established(house.wire, body=sdp(VOICE))
    (call,) = house.calls
    answer = await house.api.post(f"/v1/calls/{call.call_id}/transfer", json={"to": PREMIUM})
    assert (answer.status_code, "premium" in answer.json()["detail"]) == (403, True)
    assert house.wire.take() == []


async def test_a_callee_redirects_within_its_server_only(house: Control) -> None:
    assert (await house.api.post("/v1/calls", json={"to": "sip:anna@127.0.0.9"})).status_code == 202
    invite = await asked(house, "INVITE")
    replies = await house.wire.put(reply_to(invite, 302).replace(CONTACT, ELSEWHERE))
    assert only_request(replies, "INVITE").uri == "sip:ben@127.0.0.9"


async def test_the_end_waits_for_nobody_who_has_not_acknowledged(
    house: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "ENDING_S", 0.05)
    assert statuses(await house.wire.put(request("INVITE", body=sdp(VOICE)))) == [100, 200]
    assert house.registry.active == 1
    async with asyncio.timeout(5):
        await house.registry.close()
        await house.wire.agent.close()
        while house.registry.active:
            await asyncio.sleep(0)
    assert only_request([m for m in house.wire.take() if isinstance(m, Request)], "BYE")
