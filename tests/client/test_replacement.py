"""How often a body is replaced by one of another version, and when not any more."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest

from visavis.client import replacement
from visavis.client.model import Avatar
from visavis.client.replacement import Replacement

ANNA, BEN = (Avatar(name, name, b"", 64, 48, Fraction(25), 50) for name in ("anna", "ben"))


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_one_is_fetched_at_a_time_and_the_next_one_in_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replacement, "AGAIN_S", 0.05)
    fetched: list[Avatar] = []
    there = asyncio.Event()

    async def fetch(avatar: Avatar) -> None:
        fetched.append(avatar)
        await there.wait()

    bodies = Replacement(fetch)
    bodies.begin(ANNA)
    await turns()
    bodies.begin(BEN)
    there.set()
    await turns()
    assert fetched == [ANNA]
    bodies.begin(BEN)
    await turns()
    assert fetched == [ANNA]
    async with asyncio.timeout(5):
        while fetched != [ANNA, BEN]:
            await asyncio.sleep(0.01)
    await bodies.close()


async def test_what_a_stream_tells_at_the_end_of_a_conversation_fetches_nothing() -> None:
    fetched: list[Avatar] = []

    async def fetch(avatar: Avatar) -> None:
        fetched.append(avatar)

    bodies = Replacement(fetch)
    bodies.begin(ANNA)
    await bodies.close()
    bodies.begin(BEN)
    await turns()
    assert not fetched
