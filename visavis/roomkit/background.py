"""An event loop in a thread of its own, for classes that are called from anywhere."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class Background:
    """Starts with construction, ends with :meth:`stop`."""

    def __init__(self, name: str) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.loop.close()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine there."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def call(self, function: Callable[..., object], *args: object) -> None:
        """Call a function there, soon; without effect once stopped."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(function, *args)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait in the caller's loop."""
        return await asyncio.wrap_future(self.submit(work))

    def stop(self) -> None:
        """End the thread, without waiting for it."""
        self.call(self.loop.stop)

    async def stopped(self) -> None:
        """End the thread and wait for it."""
        self.stop()
        await asyncio.to_thread(self._thread.join, 5.0)


_shared: Background | None = None
_shared_lock = threading.Lock()


def shared_background() -> Background:
    """One loop for every provider of the process, to its end.

    gRPC's asyncio reads the events of all loops wherever it likes and loses those of a living one when it meets
    one of a closed one: loops that come and go with calls would take each other's pictures.
    """
    global _shared
    with _shared_lock:
        if _shared is None:
            _shared = Background("visavis-providers")
        return _shared
