"""What goes to one server and what comes from it, until it is left."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, NamedTuple

from visavis.client.failover import CLOSED, Home, closed_under_us, failure_of
from visavis.client.messages import ServerMessage
from visavis.client.placement import Failure
from visavis.client.session import Conversation
from visavis.errors import VisavisError
from visavis.service.logs import Log
from visavis.service.unhandled import logged

log = Log("visavis.client.stream")


class Leave(NamedTuple):
    """Why a server is left; ``failure`` where that is its fault."""

    failure: Failure | None
    reason: str


class Exchange:
    """Sends what the conversation has to say, and hands what comes to ``on_message``. Belongs to one event loop."""

    def __init__(
        self,
        home: Home,
        talk: Conversation,
        on_message: Callable[[ServerMessage], None],
        session_id: str,
    ) -> None:
        self.home = home
        self._talk = talk
        self._on_message = on_message
        self._session_id = session_id
        self._wake = asyncio.Event()
        self._left: asyncio.Future[Leave] = asyncio.get_running_loop().create_future()
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> Leave:
        """Until the server is left, by :meth:`leave` or because it fails."""
        self.alongside(self._until_it_fails(self._write))
        self.alongside(self._until_it_fails(self._read))
        try:
            return await self._left
        finally:
            tasks, self._tasks = self._tasks, []  # a cancelled task's traceback leads here
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def alongside(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """A task that ends with the exchange at the latest."""
        self._tasks = [task for task in self._tasks if not task.done()]
        task = logged(asyncio.create_task(work), "avatar stream")
        self._tasks.append(task)
        return task

    def wake(self) -> None:
        """The conversation has something to say."""
        self._wake.set()

    def leave(self, leave: Leave) -> None:
        """Leave the server; the first reason counts."""
        if not self._left.done():
            self._left.set_result(leave)

    async def _write(self) -> None:
        while True:
            request = self._talk.next_request()
            if request is not None:
                await self.home.link.send(request)
                continue
            self._wake.clear()
            await self._wake.wait()

    async def _read(self) -> None:
        while True:
            self._on_message(await self.home.link.receive())

    async def _until_it_fails(self, work: Callable[[], Awaitable[None]]) -> None:
        try:
            await work()
        except asyncio.CancelledError:
            if not closed_under_us():
                raise
            self.leave(Leave("unavailable", CLOSED))
        except VisavisError as e:
            self.leave(Leave(failure_of(e), str(e)))
        except Exception as e:
            log.exception("stream_failed", e, session=self._session_id)
            self.leave(Leave("unavailable", str(e)))
