"""A stream of sound held back a little, so that a face has heard what is said before it is heard."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TypeVar

T = TypeVar("T")


async def delayed(
    chunks: AsyncIterator[T], delay_s: float, seconds_of: Callable[[T], float]
) -> AsyncGenerator[T]:
    """Each chunk once ``delay_s`` of sound from its beginning on is there, or that much time after it came.

    A voice that comes much faster than it is played is hardly delayed, one that comes in real time by ``delay_s``,
    and one that stops to think says first what it had.
    """
    held: deque[tuple[T, float]] = deque()  # and when it came
    ahead = 0.0
    coming = asyncio.ensure_future(anext(chunks))
    try:
        while True:
            wait = held[0][1] + delay_s - time.monotonic() if held else None
            await asyncio.wait({coming}, timeout=None if wait is None else max(0.0, wait))
            if coming.done():
                try:
                    chunk = coming.result()
                except StopAsyncIteration:
                    break
                held.append((chunk, time.monotonic()))
                ahead += seconds_of(chunk)
                coming = asyncio.ensure_future(anext(chunks))
            while held and (ahead >= delay_s or time.monotonic() >= held[0][1] + delay_s):
                chunk, _ = held.popleft()
                ahead -= seconds_of(chunk)
                yield chunk
        for chunk, _ in held:
            yield chunk
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
