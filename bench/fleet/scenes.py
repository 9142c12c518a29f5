"""What goes wrong, one thing a scene. Each takes the fleet and returns when the last of it has happened."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import numpy as np

from bench.fleet.servers import Fleet
from visavis.client.avatar_client import AvatarClient
from visavis.client.model import Avatar

FROZEN_S = 5.0
SLOW_S = 6.0
FULL_S = 8.0
UNLISTED_S = 7.0


@dataclass(frozen=True)
class Scene:
    """``after_s``: how long the calls go on after it; ``visible_s``: how long lips may be away."""

    name: str
    play: Callable[[Fleet, Avatar], Awaitable[None]]
    after_s: float = 14.0
    visible_s: float = 2.0


async def nothing(fleet: Fleet, avatar: Avatar) -> None:
    """All goes well."""
    await asyncio.sleep(5)


async def killed(fleet: Fleet, avatar: Avatar) -> None:
    """SIGKILL; another pod comes in its place."""
    victim = busiest(fleet)
    await asyncio.gather(fleet.kill(victim), fleet.start())


async def drained(fleet: Fleet, avatar: Avatar) -> None:
    """SIGTERM, when another pod is ready."""
    victim = busiest(fleet)
    await fleet.start()
    await fleet.drain(victim)


async def frozen(fleet: Fleet, avatar: Avatar) -> None:
    """SIGSTOP for five seconds."""
    victim = busiest(fleet)
    fleet.freeze(victim, True)
    try:
        await asyncio.sleep(FROZEN_S)
    finally:
        fleet.freeze(victim, False)


async def slow(fleet: Fleet, avatar: Avatar) -> None:
    """It runs a tenth of the time, half a second late."""
    victim = busiest(fleet)
    try:
        for _ in range(int(SLOW_S * 2)):
            fleet.freeze(victim, True)
            await asyncio.sleep(0.45)
            fleet.freeze(victim, False)
            await asyncio.sleep(0.05)
    finally:
        fleet.freeze(victim, False)


async def full(fleet: Fleet, avatar: Avatar) -> None:
    """Somebody else takes every slot of one server."""
    async with AvatarClient(f"{busiest(fleet)}:{fleet.port}") as client:
        streams = [await client.open(avatar) for _ in range(fleet.slots)]
        silence = np.zeros(16_000, np.int16)
        for stream in streams:
            stream.start_turn(1, 1)
            stream.anchor(0, 0)
            stream.push_audio(silence)
        await asyncio.sleep(FULL_S)
        for stream in streams:
            await stream.close()


async def unlisted(fleet: Fleet, avatar: Avatar) -> None:
    """The name lists fewer servers, then its server fails, then it lists all again."""
    listed = set(fleet.names.addresses)
    fleet.names.addresses = set(sorted(listed)[: max(1, len(listed) // 2)])
    await asyncio.sleep(UNLISTED_S)
    fleet.names.fault = "servfail"
    await asyncio.sleep(UNLISTED_S)
    fleet.names.fault = ""
    fleet.names.addresses = listed


async def rolling(fleet: Fleet, avatar: Avatar) -> None:
    """Every server, one after the other, as a Deployment with maxSurge 1 does."""
    for host in list(fleet.servers):
        await fleet.start()
        await fleet.drain(host)


def busiest(fleet: Fleet) -> str:
    """The server with the most conversations."""
    return max(fleet.servers, key=lambda h: c.sessions if (c := fleet.servers[h].capacity) else 0)


GAP_S = 0.12
"""Three frames: what nobody sees."""

SCENES = [
    Scene("none", nothing, 10.0, GAP_S),
    Scene("`kill -9` of one, replaced", killed),
    Scene("SIGTERM of one, replaced", drained, visible_s=GAP_S),
    Scene("SIGSTOP of one for 5 s", frozen),
    Scene("one runs a tenth of the time for 6 s", slow),
    Scene("all slots of one taken by others for 8 s", full),
    Scene("DNS lists half, then fails, then lists all", unlisted, visible_s=GAP_S),
    Scene("rolling restart of all", rolling, 16.0, GAP_S),
]
