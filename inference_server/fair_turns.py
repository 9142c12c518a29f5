"""So many at work at once, and who comes next: the client that has cost least, not the one that asks most."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

MOST_CLIENTS = 1024


class FairTurns:
    """A semaphore whose waiting line is one line for each client; ``cost`` is in units of the caller's choice."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._lines: dict[str, deque[tuple[float, asyncio.Future[None]]]] = {}
        self._spent: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def turn(self, client: str, cost: float) -> AsyncIterator[None]:
        """Wait for a place, and give it back afterwards."""
        if self._free:
            self._free -= 1
            self._charge(client, cost)
        else:
            place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._lines.setdefault(client, deque()).append((cost, place))
            try:
                await place
            except asyncio.CancelledError:
                if place.done() and not place.cancelled():
                    self._pass_on()
                raise
        try:
            yield
        finally:
            self._pass_on()

    def _pass_on(self) -> None:
        """A place is free: to the waiting client that has cost least so far."""
        while self._lines:
            client = min(self._lines, key=lambda each: self._spent.get(each, 0.0))
            line = self._lines[client]
            cost, place = line.popleft()
            if not line:
                del self._lines[client]
            if not place.done():
                self._charge(client, cost)
                place.set_result(None)
                return
        self._free += 1
        self._spent.clear()  # nobody waits: what was before is forgotten

    def _charge(self, client: str, cost: float) -> None:
        if client not in self._spent:  # a new one begins level with those that wait, not with a credit
            self._spent[client] = min((self._spent.get(each, 0.0) for each in self._lines), default=0.0)
        self._spent[client] += cost
        if len(self._spent) > MOST_CLIENTS:
            self._spent = {each: self._spent.get(each, 0.0) for each in self._lines}
