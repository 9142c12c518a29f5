"""A new version that makes other bodies: a call goes over to it, on the new body, between two turns."""

from __future__ import annotations

import asyncio

import pytest

from testing.caller import Phone
from testing.ports import free_port
from tests.support.house import House, orchestrator, picture, tone
from tests.support.recordings import assert_voice_whole
from tests.support.servers import running_server

pytestmark = [pytest.mark.process, pytest.mark.slow]

SIZE = {"size": "160x160", "fps": 25}


async def spoken(house: House, call: str) -> int:
    """How many pictures of a turn of two seconds had a mouth."""
    before = (await house.call(call))["media"].get("frames_shown", 0)
    turn = await house.play(call, [(0.0, tone(2.0))])
    assert (await house.turn(call, turn))["state"] == "finished"
    await asyncio.sleep(0.5)
    return int((await house.call(call))["media"]["frames_shown"]) - before


async def until_replaced(house: House, call: str, address: str) -> None:
    """Wait until the call shows another avatar, drawn by this server."""
    async with asyncio.timeout(30):
        while not any(
            line["event"] == "avatar_server_opened"
            and (line["session"], line["server"]) == (f"{call}.2", address)  # its second avatar
            for line in house.log
        ):
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("made", [{"loop_frames": "70"}, {"loop_frames": "50", "colour": "206040"}])
async def test_a_call_takes_the_body_of_a_new_version(made: dict[str, str]) -> None:
    """A loop of another length, on which the old one's mouths cannot be drawn, and one of equal length."""
    port = free_port()
    async with (
        running_server(host="127.0.0.2", engine_settings={"loop_frames": "50"}, drain_s=15) as old,
        orchestrator([old.address, f"127.0.0.3:{port}"], portrait=picture(), **SIZE) as house,
        Phone(house.uri) as phone,
    ):
        call = await house.call_id()
        assert await spoken(house, call) > 20
        settings = {"version": "3", **made}
        async with running_server(host="127.0.0.3", port=port, engine_settings=settings) as new:
            turn = await house.play(call, [(0.0, tone(4.0))])
            await asyncio.sleep(1.0)
            assert await old.stop() == 0
            assert (await house.turn(call, turn))["state"] == "finished"
            await until_replaced(house, call, new.address)
            await asyncio.sleep(0.5)
            assert await spoken(house, call) > 20
            async with Phone(house.uri) as another:
                assert await spoken(house, await house.call_id()) > 20
            assert another.recording.audio.lost == 0
    assert_voice_whole(phone.recording, 8.0)
