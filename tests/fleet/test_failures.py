"""A small fleet under real calls: one server is killed, one drains, and the name changes meanwhile."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from pathlib import Path

import pytest

from bench.fleet.play import play
from bench.fleet.scenes import Scene, busiest
from bench.fleet.servers import Fleet
from testing.nameserver import NameServer
from testing.ports import free_port
from tests.support.house import orchestrator, picture
from visavis.client.avatar_client import AvatarClient
from visavis.client.model import Avatar

pytestmark = pytest.mark.process

NAME = "inference.visavis.test"


async def everything(fleet: Fleet, avatar: Avatar) -> None:
    """Of three servers one is killed, another comes, one goes, and DNS fails for a while."""
    await fleet.kill(busiest(fleet))
    fleet.names.fault = "servfail"
    await fleet.start()
    fleet.names.fault = ""
    await asyncio.sleep(6)  # the name is asked again
    await fleet.drain(busiest(fleet))


@pytest.mark.slow
async def test_calls_outlive_the_servers_that_draw_them(tmp_path: Path) -> None:
    async with NameServer(NAME) as names:
        fleet = Fleet(tmp_path, free_port(), 4, names, drain_s=3.0)
        try:
            for _ in range(3):
                await fleet.start()
            image = picture()
            async with orchestrator(
                f"dns:///{NAME}:{fleet.port}",
                portrait=image,
                avatar_nameserver=names.address,
                size="160x160",
            ) as house:
                async with AvatarClient(f"127.0.1.1:{fleet.port}") as client:
                    avatar = await client.prepare(image, 160, 160, Fraction(25))
                scene = Scene("everything", everything, after_s=4.0)
                outcome = await play(fleet, [house], avatar, scene, calls=4)
        finally:
            await fleet.close()
    assert (outcome.calls, outcome.dropped) == (4, 0)
    assert outcome.turns == outcome.finished >= 8
    assert outcome.beyond == 0
    assert sum(outcome.sessions) == 4 and len(outcome.sessions) == 2
    assert outcome.blind == 0  # every call had lips in its last turn, after all that
    # A loaded machine skips pictures; those that it shows are where their sound is.
    assert outcome.astray <= 1 / 25 + 0.02, outcome
