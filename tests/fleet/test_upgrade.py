"""From a version without tokens to one with them, under a call: every refusal is a sentence, and no call drops.

Clients and servers of before speak the same contract and know of no token: that is what stands for them here. With
``VISAVIS_BEFORE`` naming a checkout of such a version its own code is run in place of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from testing.caller import Phone
from tests.support.credentials import FLEET_TOKEN
from tests.support.house import House, orchestrator, picture, tone
from tests.support.servers import ROOT, InferenceServer, running_server

pytestmark = [pytest.mark.process, pytest.mark.slow]

BEFORE = Path(os.environ.get("VISAVIS_BEFORE", ROOT))
SIZE = {"size": "160x160", "fps": 25}


@contextlib.asynccontextmanager
async def orchestrator_of_before(
    servers: list[str], folder: Path, **settings: object
) -> AsyncIterator[House]:
    if BEFORE == ROOT:
        settings["avatar_tokens"] = folder / "none"
        (folder / "none").write_text("# a client that knows of no token\n")
    async with orchestrator(servers, code=BEFORE, portrait=picture(), **SIZE, **settings) as house:
        yield house


@contextlib.asynccontextmanager
async def server_of_before(**settings: Any) -> AsyncIterator[InferenceServer]:
    if BEFORE == ROOT:
        settings["insecure"] = True
    async with running_server(code=BEFORE, **settings) as server:
        yield server


async def spoken(house: House, call: str, seconds: float = 2.0) -> int:
    """A turn; how many of its pictures had a mouth."""
    before = (await house.call(call))["media"].get("frames_shown", 0)
    turn = await house.play(call, [(0.0, tone(seconds))])
    assert (await house.turn(call, turn))["state"] == "finished"
    await asyncio.sleep(0.5)
    return int((await house.call(call))["media"]["frames_shown"]) - before


async def states(house: House) -> dict[str, tuple[str, str]]:
    """State and reason of each server, as the orchestrator tells it."""
    return {one["address"]: (one["state"], one["reason"]) for one in (await house.status())["servers"]}


async def until_told(house: House, server: InferenceServer, state: str, *words: str) -> None:
    """Wait for a server's state, and for these words in the reason."""
    told = ("", "")
    try:
        async with asyncio.timeout(20):
            while told[0] != state or not all(word in told[1] for word in words):
                await asyncio.sleep(0.2)
                told = (await states(house))[server.address]
    except TimeoutError:
        raise AssertionError(told) from None


async def test_servers_first_then_the_orchestrator(tmp_path: Path) -> None:
    """As the hardening page says: new servers serve clients without a token until no such client is left."""
    async with (
        running_server(insecure=True, slots=4) as lenient,
        running_server(slots=4) as strict,
        orchestrator_of_before([lenient.address, strict.address], tmp_path) as old,
    ):
        await until_told(old, strict, "unreachable", "no token", "visavis-token fleet")
        async with Phone(old.uri) as phone:
            call = await old.call_id()
            assert await spoken(old, call) > 20
            strict.kill()  # refuses or is gone: the same for a call that it never had
            assert await spoken(old, call) > 20
            assert (await old.call(call))["ended_at"] is None
        assert phone.recording.audio.lost == 0
        async with orchestrator(lenient.address, portrait=picture(), **SIZE) as new, Phone(new.uri) as phone:
            assert await spoken(new, await new.call_id()) > 20
        assert phone.recording.audio.lost == 0


async def test_a_server_that_comes_back_strict_costs_lips_and_no_call(tmp_path: Path) -> None:
    """The wrong order: the server wants a token before its client has one."""
    async with running_server(insecure=True, slots=4) as lenient:
        port = int(lenient.address.rpartition(":")[2])
        async with (
            orchestrator_of_before([lenient.address], tmp_path) as old,
            Phone(old.uri) as phone,
        ):
            call = await old.call_id()
            assert await spoken(old, call) > 20
            await lenient.stop()
            async with running_server(port=port, slots=4) as strict:
                await until_told(old, strict, "unreachable", "no token", "visavis-token fleet")
                assert await spoken(old, call) == 0
                assert (await old.call(call))["ended_at"] is None
                if BEFORE == ROOT:  # the client learns the token, without a restart
                    (tmp_path / "none").write_text(f"{FLEET_TOKEN}\n")
                    await until_told(old, strict, "ready")
                    await asyncio.sleep(2.0)
                    assert await spoken(old, call) > 20
    assert phone.recording.audio.lost == 0


async def test_an_orchestrator_of_now_and_a_server_of_before() -> None:
    async with (
        server_of_before(slots=4) as server,
        orchestrator(server.address, portrait=picture(), **SIZE) as house,
        Phone(house.uri) as phone,
    ):
        assert await spoken(house, await house.call_id()) > 20
    assert phone.recording.audio.lost == 0
