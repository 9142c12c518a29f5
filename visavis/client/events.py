"""Delivery of a stream's events to its caller."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable

from visavis.client.messages import Event
from visavis.frames import Frame
from visavis.service.logs import Log

log = Log("visavis.client.stream")

OnEvent = Callable[[Event], None]

_FRAMES_KEPT = 128


class Delivery:
    """To ``on_event`` as they come, or, without it, kept for ``async for``."""

    def __init__(self, on_event: OnEvent | None, session_id: str) -> None:
        self._on_event = on_event
        self._session_id = session_id
        self._events: deque[Event] = deque()
        self._there = asyncio.Event()
        self._closed = False

    def put(self, events: Iterable[Event]) -> None:
        """Hand these over; nobody is told any more once it is closed."""
        if self._closed:
            return
        for event in events:
            if self._on_event is not None:
                try:
                    self._on_event(event)
                except Exception:
                    log.exception("event_handler_failed", session=self._session_id)
                continue
            self._events.append(event)
            if len(self._events) > _FRAMES_KEPT:  # nobody reads: the oldest frame is stale by now
                for i, old in enumerate(self._events):
                    if isinstance(old, Frame):
                        del self._events[i]
                        break
            self._there.set()

    def forget_frames(self, epoch: int) -> None:
        """Frames older than ``epoch`` are not delivered any more."""
        self._events = deque(e for e in self._events if not (isinstance(e, Frame) and e.epoch < epoch))

    def close(self) -> None:
        """Iteration ends with what is there."""
        self._closed = True
        self._on_event = None
        self._there.set()

    async def __aiter__(self) -> AsyncIterator[Event]:
        while not self._closed or self._events:
            while self._events:
                yield self._events.popleft()
            self._there.clear()
            if not self._closed:
                await self._there.wait()
