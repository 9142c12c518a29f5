"""What is left of a call: its record, its log line, its SIP trace."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Any

import pytest

from testing.caller import CallFailed, Phone
from testing.ports import free_port
from tests.peers.postgresql import postgresql
from tests.support.credentials import api_tokens
from tests.support.house import House, orchestrator, tone

pytestmark = pytest.mark.process


async def record(house: House, index: int = 0) -> dict[str, Any]:
    """The newest record, when there are as many as asked for; calls refused by a loaded machine left out."""
    async with asyncio.timeout(10):
        while True:
            kept = (await house.api.get("/v1/records")).json()
            if len(records := [one for one in kept if one["cause"] != "no_room"]) > index:
                break
            await asyncio.sleep(0.05)
    newest: dict[str, Any] = records[0]
    return newest


async def refusal_of_srtp(house: House) -> str:
    """What a phone is told that wants SRTP where there is none; again while the media worker is overloaded."""
    async with asyncio.timeout(60):
        while True:
            phone = Phone(house.uri)
            offer = phone._offer
            phone._offer = lambda offer=offer: offer().replace("RTP/AVP", "RTP/SAVP")  # type: ignore
            try:
                async with phone:
                    raise AssertionError("it was answered")
            except CallFailed as error:
                if "503" not in str(error):
                    return str(error)
            await asyncio.sleep(0.5)


async def test_records_and_a_trace() -> None:
    """No inference server: what is kept of a call does not depend on its face."""
    async with orchestrator([f"127.0.0.1:{free_port()}"], wait=False) as house:
        await house.answering()
        assert (await house.api.put("/v1/traces", json={"calls": 1})).status_code == 204
        async with Phone(house.uri) as phone:
            call = await house.call_id()
            turn = await house.play(call, [(0.0, tone(0.5))])
            await house.turn(call, turn)
            assert (await house.api.get(f"/v1/records/{call}")).status_code == 404
        one = await record(house)
        assert one["call_id"] == call
        assert (one["cause"], one["ended_by"], one["sip_status"]) == ("bye by peer", "peer", 0)
        assert one["audio"] == "PCMU/8000" and one["video"].startswith("H264")
        assert one["ended_at"] >= one["answered_at"] >= one["started_at"]
        assert one["seconds"] == pytest.approx(one["ended_at"] - one["answered_at"], abs=0.01)
        assert one["media"]["audio"]["sent_packets"] >= len(phone.recording.audio.packets) > 20
        trace = (await house.api.get(f"/v1/calls/{call}/trace")).text
        assert trace.index("INVITE sip:demo") < trace.index("SIP/2.0 200 OK") < trace.index("BYE ")
        assert one["sip_call_id"] in trace

        assert "488" in await refusal_of_srtp(house)
        one = await record(house, 1)
        assert (one["cause"], one["sip_status"], one["answered_at"]) == ("not_acceptable", 488, None)

        to = f"sip:nobody@127.0.0.1:{free_port()};transport=tcp"
        call = (await house.api.post("/v1/calls", json={"to": to})).json()["call_id"]
        one = await record(house, 2)
        assert (one["call_id"], one["direction"], one["sip_cause"]) == (call, "out", "unreachable")
        assert (
            await house.api.get(f"/v1/calls/{call}/trace")
        ).status_code == 404  # one call was to be traced
        lines = [line for line in house.log if line["event"] == "call_record" and line["cause"] != "no_room"]
        assert [line["sip_cause"] for line in lines] == ["hangup", "not_acceptable", "unreachable"]


async def metric(house: House, name: str) -> float:
    lines = (await house.api.get("/metrics")).text.splitlines()
    return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))


@pytest.mark.slow
async def test_records_outlive_the_process_even_one_that_is_killed(tmp_path: Path) -> None:
    nobody = [f"127.0.0.1:{free_port()}"]
    api_tokens(tmp_path)
    async with orchestrator(nobody, wait=False, data_dir=tmp_path) as house:
        await house.answering()
        async with Phone(house.uri):
            call = await house.call_id()
        before = await record(house)
        while await metric(house, "visavis_archive_waiting"):
            await asyncio.sleep(0.05)
        house.process.kill()
        await house.process.wait()
    async with orchestrator(nobody, wait=False, data_dir=tmp_path) as house:
        await house.answering()
        assert await record(house) == before
        assert (await house.api.delete(f"/v1/records/{call}")).status_code == 204
        assert (await house.api.get("/v1/records")).json() == []


@pytest.mark.slow
@pytest.mark.peer("postgres")
async def test_a_database_that_goes_away_costs_no_call() -> None:
    """PostgreSQL ends in mid-call, by force; the call goes on, and its record is written when it is back."""
    with postgresql() as server:
        nobody = [f"127.0.0.1:{free_port()}"]
        async with orchestrator(nobody, wait=False, database=server.url) as house:
            await house.answering()
            async with Phone(house.uri) as phone:
                call = await house.call_id()
                await asyncio.to_thread(server.stop, signal.SIGQUIT)
                answer = await house.api.get("/v1/records")
                assert answer.status_code == 503 and "the database does not do it" in answer.json()["detail"]
                turn = await house.play(call, [(0.0, tone(0.5))])
                assert (await house.turn(call, turn))["state"] == "finished"
            assert len(phone.recording.audio.packets) > 20
            async with asyncio.timeout(20):
                while await metric(house, "visavis_archive_waiting") != 1.0:
                    await asyncio.sleep(0.05)
            assert (await house.status())["database"]["state"] == "away"
            assert (await house.api.get(f"/v1/records/{call}")).json()["call_id"] == call
            await asyncio.to_thread(server.start)
            async with asyncio.timeout(40):
                while await metric(house, "visavis_archive_waiting"):
                    await asyncio.sleep(0.1)
            assert (await record(house))["call_id"] == call
            assert await metric(house, "visavis_archive_lost_total") == 0.0
        async with orchestrator(nobody, wait=False, database=server.url) as house:
            await house.answering()
            assert (await record(house))["call_id"] == call
