"""What a call tells its handler: one event after the other, each in a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from visavis.service.logs import Log

log = Log(__name__)
LAST_EVENT_SECONDS = 1.0


class Announcements:
    """One call's events in order. `on_failure` is called where the handler raised."""

    def __init__(
        self,
        call_id: str,
        spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]],
        on_failure: Callable[[], None],
    ) -> None:
        self._call_id = call_id
        self._spawn = spawn
        self._on_failure = on_failure
        self._last: asyncio.Task[None] | None = None

    def put(self, event: Callable[[], Coroutine[Any, Any, None]], *, last: bool) -> None:
        """Run it after those before it; the `last` one waits only a moment: no handler that hangs may hide it."""
        previous = self._last

        async def run() -> None:
            if previous is not None:
                await asyncio.wait({previous}, timeout=LAST_EVENT_SECONDS if last else None)
            try:
                await event()
            except Exception:
                log.exception("handler_failed", call=self._call_id)
                self._on_failure()

        self._last = self._spawn(run())
