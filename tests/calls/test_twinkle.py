"""Twinkle, voice: it hears us, it holds and resumes, whoever calls."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from testing.ports import free_port
from tests.calls.test_baresip import dominant
from tests.peers.pulse import pulse
from tests.peers.twinkle import twinkle
from tests.support.house import House, orchestrator, tone

pytestmark = [
    pytest.mark.peer("twinkle-console", "pulseaudio"),
    pytest.mark.process,
    pytest.mark.slow,
]


async def packets(house: House, call: str) -> int:
    """Of the voice, sent so far as last reported."""
    return int((await house.call(call))["media"].get("audio", {}).get("sent_packets", 0))


async def silent(house: House, call: str) -> int:
    """How many had been sent when no more were; figures come every five seconds."""
    async with asyncio.timeout(30):
        before = -1
        while (sent := await packets(house, call)) != before:
            before = sent
            await asyncio.sleep(5.5)
    return sent


@pytest.mark.parametrize(
    ("who", "codec", "name"), [("it", "g711a", "PCMA"), ("it", "g711u", "PCMU"), ("we", "g711a", "PCMA")]
)
async def test_a_call_with_twinkle(tmp_path: Path, who: str, codec: str, name: str) -> None:
    async with (
        orchestrator([f"127.0.0.1:{free_port()}"], wait=False) as house,
        pulse(tmp_path / "tw") as sound,
        twinkle(sound, codec) as phone,
    ):
        await house.answering()
        if who == "it":
            phone.say(f"call {house.uri}")
        else:
            phone.say("auto_answer -a on")
            to = f"sip:tw@127.0.0.1:{phone.port};transport=udp"
            await house.api.post("/v1/calls", json={"to": to, "video": True})
        call = await house.call_id()
        view = await house.call(call)
        assert (view["audio"].split("/")[0], view["video"]) == (name, None)
        turn = await house.play(call, [(0.3, tone(2.0, 620.0))])
        assert (await house.turn(call, turn))["heard_ms"] == pytest.approx(2000, abs=1)
        phone.say("hold")
        await asyncio.sleep(0.5)
        sent = await silent(house, call)
        phone.say("retrieve")
        async with asyncio.timeout(20):
            while await packets(house, call) < sent + 50:
                await asyncio.sleep(0.2)
        turn = await house.play(call, [(0.3, tone(2.0, 620.0))])
        assert (await house.turn(call, turn))["heard_ms"] == pytest.approx(2000, abs=1)
        phone.say("bye")
        async with asyncio.timeout(10):
            while not (records := (await house.api.get("/v1/records")).json()):
                await asyncio.sleep(0.05)
        assert (records[0]["cause"], records[0]["call_id"]) == ("bye by peer", call)
        assert records[0]["media"]["audio"]["received_packets"] > 0
    assert dominant(sound.heard) == pytest.approx(620, abs=8)
