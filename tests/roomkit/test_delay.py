"""A voice held back until enough of it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from visavis.roomkit.delay import delayed


def tenth(_: int) -> float:
    return 0.1


async def test_a_fast_voice_is_given_once_the_delay_is_there() -> None:
    taken: list[int] = []

    async def voice() -> AsyncIterator[int]:
        for chunk in range(6):
            taken.append(chunk)
            yield chunk

    given = []
    async for chunk in delayed(voice(), 0.25, tenth):
        assert len(taken) >= min(6, chunk + 3)
        given.append(chunk)
    assert given == list(range(6))


async def test_a_voice_that_stops_to_think_says_what_it_had() -> None:
    more = asyncio.Event()

    async def voice() -> AsyncIterator[int]:
        yield 0
        await more.wait()
        yield 1

    given = []
    async for chunk in delayed(voice(), 0.05, tenth):
        given.append(chunk)
        more.set()
    assert given == [0, 1]


async def test_leaving_early_leaves_nothing_behind() -> None:
    closed = asyncio.Event()

    async def voice() -> AsyncIterator[int]:
        try:
            while True:
                yield 0
                await asyncio.sleep(0)
        finally:
            closed.set()

    source = voice()
    held = delayed(source, 0.05, tenth)
    assert await anext(held) == 0
    await held.aclose()
    assert closed.is_set() and len(asyncio.all_tasks()) == 1
