"""Encrypted calls with an independent phone."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from testing.caller import CallFailed, Phone
from testing.ports import free_port
from tests.calls.test_baresip import dominant, established, read_shot
from tests.peers.baresip import baresip
from tests.sip.test_transport import make_certificates
from tests.support.house import orchestrator, tone
from tests.support.servers import inference_server


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.peer("baresip", "ffmpeg")
@pytest.mark.parametrize(
    ("ours", "theirs", "transport"), [("required", "srtp-mand", "tls"), ("optional", "srtp", "udp")]
)
async def test_baresip_sees_and_hears_over_srtp(
    tmp_path: Path, ours: str, theirs: str, transport: str
) -> None:
    paths, port = make_certificates(tmp_path), free_port()
    tls = {"sip_tls_port": port, "sip_tls_certificate": paths["server"], "sip_tls_key": paths["server_key"]}
    trust = f"sip_certificate {paths['client_both']}\nsip_cafile {paths['ca']}\n"
    async with (
        inference_server() as server,
        orchestrator([server], srtp=ours, **tls) as house,
        baresip(tmp_path / "phone", account=f";mediaenc={theirs}", settings=trust) as phone,
    ):
        house.sip_port = port if transport == "tls" else house.sip_port
        call = await established(house, phone, f";transport={transport}")
        await asyncio.sleep(1.0)
        turn = await house.play(call, [(0.0, tone(3.0, 620.0))])
        await asyncio.sleep(1.2)
        assert (await read_shot(phone)).mouth is not None
        assert (await house.turn(call, turn))["state"] == "finished"
        frames = re.search(r"frames=(\d+)", await phone.command("video_debug"))
        await asyncio.sleep(6.0)  # figures come every five seconds
        media = (await house.call(call))["media"]
        await phone.command("hangup")
        await phone.wait("CALL_CLOSED")
        assert frames and int(frames[1]) > 60
        assert dominant(phone.heard) == pytest.approx(620, abs=8)
        assert media["audio"]["received_packets"] > 100
        # baresip's first packet of a stream leaves before its keys are set.
        assert max(media["audio"]["rejected"], media["video"]["rejected"]) <= 2
        assert (media["video"]["peer_lost"], media["audio"]["peer_lost"]) == (0, 0)


@pytest.mark.process
async def test_a_plain_call_is_refused_where_srtp_is_required() -> None:
    async with orchestrator([f"127.0.0.1:{free_port()}"], wait=False, srtp="required") as house:
        await house.answering()
        with pytest.raises(CallFailed, match="488"):
            async with Phone(house.uri):
                pass


@pytest.mark.process
@pytest.mark.slow
@pytest.mark.peer("baresip", "ffmpeg")
async def test_a_trunk_that_wants_srtp_gets_it(tmp_path: Path) -> None:
    """A call of ours goes out over an account that has SRTP where other calls have none."""
    async with (
        inference_server() as server,
        baresip(tmp_path / "phone", answer="auto", account=";mediaenc=srtp-mand") as phone,
    ):
        proxy = f"sip:127.0.0.1:{phone.sip_port};transport=udp"
        trunk = {"uri": "sip:me@127.0.0.1", "register": False, "proxies": [proxy], "srtp": "required"}
        async with orchestrator([server], sip_accounts=json.dumps([trunk])) as house:
            answer = await house.api.post("/v1/calls", json={"to": "alice"})
            call = answer.json()["call_id"]
            await phone.wait("CALL_ESTABLISHED")
            turn = await house.play(call, [(0.0, tone(2.0, 620.0))])
            assert (await house.turn(call, turn))["state"] == "finished"
            await read_shot(phone)
            await house.api.delete(f"/v1/calls/{call}")
            await phone.wait("CALL_CLOSED")
            async with asyncio.timeout(10):
                while not (records := (await house.api.get("/v1/records")).json()):
                    await asyncio.sleep(0.05)
        assert dominant(phone.heard) == pytest.approx(620, abs=8)
        (record,) = records
        assert (record["account"], record["srtp"], record["cause"]) == ("sip:me@127.0.0.1", True, "api")
        assert record["media"]["audio"]["received_packets"] > 50
        assert max(record["media"][kind]["rejected"] for kind in ("audio", "video")) <= 2
