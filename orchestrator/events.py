"""What happens in calls, for whoever listens: server-sent events, webhook, tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import httpx

from visavis.logs import Log

log = Log(__name__)

EventKind = Literal[
    "ringing", "answered", "turn_started", "turn_finished", "turn_interrupted", "dtmf", "avatar", "ended"
]
QUEUED = 1000
"""Events that wait for one slow listener; then its oldest are dropped."""


@dataclass(frozen=True)
class CallEvent:
    """One event of one call; ``data`` depends on the kind and is described in ``docs/api.md``."""

    kind: EventKind
    call_id: str
    data: dict[str, Any] = field(default_factory=dict)
    time: float = field(default_factory=time.time)

    def as_dict(self) -> dict[str, Any]:
        """The JSON object that listeners get."""
        return {"event": self.kind, "call_id": self.call_id, "time": round(self.time, 3), **self.data}


class EventBus:
    """Fans events out to any number of listeners; none of them can hold up a call."""

    def __init__(self) -> None:
        self._listeners: set[asyncio.Queue[CallEvent]] = set()

    def publish(self, event: CallEvent) -> None:
        """Never blocks."""
        for queue in self._listeners:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(event)

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[asyncio.Queue[CallEvent]]:
        """A queue of every event from now on."""
        queue: asyncio.Queue[CallEvent] = asyncio.Queue(QUEUED)
        self._listeners.add(queue)
        try:
            yield queue
        finally:
            self._listeners.discard(queue)


async def post_events(bus: EventBus, url: str, *, attempts: int = 3) -> None:
    """POST every event to ``url`` in order; one that keeps failing is logged and dropped."""
    async with bus.listen() as queue, httpx.AsyncClient(timeout=5.0) as client:
        while True:
            event = await queue.get()
            for attempt in range(attempts):
                try:
                    (await client.post(url, json=event.as_dict())).raise_for_status()
                    break
                except httpx.HTTPError as error:
                    if attempt == attempts - 1:
                        log.warning("webhook_failed", call=event.call_id, reason=str(error))
                    else:
                        await asyncio.sleep(0.2 * 2**attempt)
