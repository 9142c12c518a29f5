"""Tasks that must not end unseen: what ends by itself is logged, counted and started anew."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from visavis.service.logs import Log
from visavis.service.text import escaped

log = Log(__name__)

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
STEADY_S = 60.0
"""A task that ran for so long starts again after the first delay."""

Work = Callable[[], Coroutine[Any, Any, object]]


@dataclass(frozen=True, slots=True)
class TaskFailure:
    """How often a task ended unexpectedly; ``at`` (seconds since 1970) and ``reason`` are those of the last time.

    ``running``: it has been started again.
    """

    task: str
    count: int
    at: float
    reason: str
    running: bool


class BackOff:
    """Pauses before what ended is started again.

    Each is twice the one before, up to ``longest_s``; after a run of ``steady_s`` they begin anew with ``first_s``.
    """

    def __init__(
        self, first_s: float = FIRST_DELAY_S, longest_s: float = LONGEST_DELAY_S, steady_s: float = STEADY_S
    ) -> None:
        self._first_s, self._longest_s, self._steady_s = first_s, longest_s, steady_s
        self._next_s = first_s

    def pause(self, ran_s: float) -> float:
        """How long to wait now, in seconds, after a run of so many."""
        if ran_s > self._steady_s:
            self._next_s = self._first_s
        pause, self._next_s = self._next_s, min(2 * self._next_s, self._longest_s)
        return pause


class Supervisor:
    """The long-lived tasks of one event loop.

    ``on_failure`` is told each unexpected end, as a task's name and one sentence. ``delay_s`` is the pause before
    a first restart; it doubles up to a minute while a task keeps failing.
    """

    def __init__(
        self, on_failure: Callable[[str, str], None] | None = None, *, delay_s: float = FIRST_DELAY_S
    ) -> None:
        self.on_failure = on_failure
        self._delay_s = delay_s
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: dict[str, TaskFailure] = {}

    @property
    def failures(self) -> list[TaskFailure]:
        """Every task that has ended unexpectedly since the process began, by name."""
        return [self._failures[name] for name in sorted(self._failures)]

    def keep(self, name: str, work: Work) -> asyncio.Task[None]:
        """Run ``work`` until it is cancelled: however else it ends, it is started again."""
        return self._start(name, self._kept(name, work))

    def watch(self, name: str, work: Coroutine[Any, Any, object]) -> asyncio.Task[None]:
        """Run something that ends by itself, once; what it raises is a failure."""
        return self._start(name, self._watched(name, work))

    def failed(self, name: str, error: BaseException | str, *, running: bool = False) -> None:
        """Note an unexpected end, also of what runs elsewhere."""
        reason = escaped(error if isinstance(error, str) else f"{type(error).__name__}: {error}"[:300])
        before = self._failures.get(name)
        count = before.count + 1 if before else 1
        self._failures[name] = TaskFailure(name, count, time.time(), reason, running)
        if isinstance(error, BaseException):
            log.exception("task_failed", error, task=name, count=count)
        else:
            log.error("task_failed", task=name, count=count, reason=reason)
        if self.on_failure is not None:
            self.on_failure(name, reason)

    def oversee(self) -> None:
        """Note also what fails in the running loop and in threads outside every task that is kept."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(self._unhandled)
        threading.excepthook = lambda args: self._thread_failed(loop, args)

    async def close(self) -> None:
        """Cancel every task and wait for it."""
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _start(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _kept(self, name: str, work: Work) -> None:
        back_off = BackOff(self._delay_s)
        while True:
            began = time.monotonic()
            try:
                await work()
                error: BaseException | str = "it returned, which it never should"
            except asyncio.CancelledError as raised:
                task = asyncio.current_task()
                if task is None or task.cancelling():
                    raise
                error = raised  # something it waited for was cancelled
            except Exception as raised:
                error = raised
            self.failed(name, error)
            await asyncio.sleep(back_off.pause(time.monotonic() - began))
            self._runs_again(name)

    def _runs_again(self, name: str) -> None:
        failure = self._failures[name]
        self._failures[name] = TaskFailure(failure.task, failure.count, failure.at, failure.reason, True)

    async def _watched(self, name: str, work: Coroutine[Any, Any, object]) -> None:
        try:
            await work
        except Exception as error:
            self.failed(name, error)

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        message = str(context.get("message") or "an error in the event loop")
        if isinstance(error, ConnectionError):
            log.debug("connection_lost", reason=message)  # a peer that went away in mid-write
            return
        self.failed("event loop", error or message, running=True)

    def _thread_failed(self, loop: asyncio.AbstractEventLoop, args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "thread"
        if args.exc_value is None or args.exc_type is SystemExit:
            return
        try:
            loop.call_soon_threadsafe(self.failed, f"thread {name}", args.exc_value)
        except RuntimeError:  # the loop is closed
            log.exception("thread_failed", args.exc_value, thread=name)
