"""What happens in calls, for whoever listens: server-sent events, webhook, metrics, tests."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from orchestrator.calls.event import CallEvent, EventKind
from orchestrator.calls.event_queue import FairQueue
from visavis.service.logs import Log

log = Log(__name__)

__all__ = ["CallEvent", "EventBus", "EventKind", "Subscription"]

LOG_EVERY_S = 1.0


class Subscription:
    """One listener's events from now on, of all calls or of one. ``name`` says in metrics and logs who it is."""

    def __init__(self, name: str, call_id: str | None = None, queue: FairQueue | None = None) -> None:
        self.name = name
        self.queue = queue or FairQueue()
        self.on_lost: Callable[[CallEvent], None] | None = None
        self._call_id = call_id
        self._news = asyncio.Event()

    def put(self, event: CallEvent) -> int:
        """Let an event wait; how many were left out for it."""
        if self._call_id not in (None, event.call_id):
            return 0
        left_out = self.queue.put(event)
        self.wake()
        if self.on_lost is not None:
            for each in left_out:
                self.on_lost(each)
        return len(left_out)

    def wake(self) -> None:
        """Something may be taken."""
        self._news.set()

    async def take(self) -> CallEvent:
        """The next event; the call's following one comes after ``done``."""
        while (event := self.queue.take()) is None:
            self._news.clear()
            await self._news.wait()
        return event

    def done(self, call_id: str) -> None:
        """See :meth:`EventQueue.done`."""
        self.queue.done(call_id)
        self.wake()

    async def get(self) -> CallEvent:
        """The next event, dealt with."""
        event = await self.take()
        self.queue.done(event.call_id)
        return event

    def get_nowait(self) -> CallEvent:
        """The next event, dealt with. Raises ``asyncio.QueueEmpty``."""
        event = self.queue.take()
        if event is None:
            raise asyncio.QueueEmpty
        self.queue.done(event.call_id)
        return event


class EventBus:
    """Fans events out to any number of listeners; none of them can hold up a call.

    ``lost`` counts, by listener, the events that were left out.
    """

    def __init__(self) -> None:
        self._listeners: set[Subscription] = set()
        self._untold: Counter[str] = Counter()
        self._told_at = float("-inf")
        self.lost: Counter[str] = Counter()

    def publish(self, event: CallEvent) -> None:
        """Never blocks."""
        for listener in self._listeners:
            if left_out := listener.put(event):
                self.note_lost(listener.name, left_out)

    def note_lost(self, name: str, count: int) -> None:
        """A listener did not get so many events."""
        self.lost[name] += count
        self._untold[name] += count
        now = time.monotonic()
        if now - self._told_at >= LOG_EVERY_S:
            for listener, events in self._untold.items():
                log.warning("events_lost", listener=listener, count=events)
            self._untold.clear()
            self._told_at = now

    def subscribe(self, subscription: Subscription) -> None:
        """Every event from now on."""
        self._listeners.add(subscription)

    def unsubscribe(self, subscription: Subscription) -> None:
        """No more."""
        self._listeners.discard(subscription)

    @asynccontextmanager
    async def listen(self, name: str = "stream", call_id: str | None = None) -> AsyncIterator[Subscription]:
        """A listener of every event from now on, or of one call's."""
        subscription = Subscription(name, call_id)
        self.subscribe(subscription)
        try:
            yield subscription
        finally:
            self.unsubscribe(subscription)
