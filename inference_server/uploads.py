"""Pictures and videos on their way in: few at once, since each is in memory until it is on disk."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from inference_server.errors import RequestError
from inference_server.fair_turns import FairTurns

PLACES = 2
WAIT_S = 60.0
RECEIVE_S = 30.0


class Uploads:
    """Whoever has no place yet is not read from: its sender waits, and what it sends stays with it."""

    def __init__(self, places: int = PLACES) -> None:
        self._turns = FairTurns(places)

    @contextlib.asynccontextmanager
    async def place(self, client: str) -> AsyncIterator[None]:
        """Receive one upload of ``client`` in here.

        Raises :class:`RequestError` where there is no place, or the upload comes too slowly.
        """
        async with contextlib.AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(WAIT_S):
                    await stack.enter_async_context(self._turns.turn(client, 1.0))
            except TimeoutError:
                raise RequestError(
                    "resource_exhausted", f"Others have uploaded for {WAIT_S:g} s: try again later."
                ) from None
            try:
                async with asyncio.timeout(RECEIVE_S):
                    yield
            except TimeoutError:
                raise RequestError(
                    "deadline_exceeded", f"The upload did not come within {RECEIVE_S:g} s: send it again."
                ) from None
