"""Encrypted calls with an independent phone."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from bench.caller import CallFailed, Phone
from tests.support.baresip import baresip
from tests.support.house import orchestrator, tone
from tests.support.servers import inference_server
from tests.test_call_baresip import dominant, established, read_shot


@pytest.mark.peer
@pytest.mark.parametrize(("ours", "theirs"), [("required", "srtp-mand"), ("optional", "srtp")])
async def test_baresip_sees_and_hears_over_srtp(tmp_path: Path, ours: str, theirs: str) -> None:
    async with (
        inference_server() as server,
        orchestrator([server], srtp=ours) as house,
        baresip(tmp_path / "phone", account=f";mediaenc={theirs}") as phone,
    ):
        call = await established(house, phone)
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


async def test_a_plain_call_is_refused_where_srtp_is_required() -> None:
    async with inference_server() as server, orchestrator([server], srtp="required") as house:
        with pytest.raises(CallFailed, match="488"):
            async with Phone(house.uri):
                pass
