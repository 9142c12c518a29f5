"""Exceptions that nobody handles: those of threads, of event loops, and of work whose end nobody waits for.

Each is one line of the log, with its trace.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any, TypeVar

from visavis.service.logs import Log

log = Log(__name__)

Work = TypeVar("Work", bound="asyncio.Future[Any] | concurrent.futures.Future[Any]")


def logged(work: Work, name: str) -> Work:
    """The same task or future; an exception that ends it is logged at once, whoever keeps or forgets it."""

    def done(ended: asyncio.Future[Any] | concurrent.futures.Future[Any]) -> None:
        if not ended.cancelled() and (error := ended.exception()) is not None:
            log.exception("work_failed", error, work=name)

    work.add_done_callback(done)
    return work


def log_threads() -> None:
    """Log the exceptions that end threads of this process."""

    def failed(about: threading.ExceptHookArgs) -> None:
        if about.exc_value is not None and about.exc_type is not SystemExit:
            log.exception("thread_failed", about.exc_value, thread=about.thread.name if about.thread else "")

    threading.excepthook = failed


def log_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Log what the callbacks and the forgotten tasks of a loop raise."""

    def failed(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        work = context.get("task") or context.get("future") or context.get("handle")
        error = context.get("exception")
        if error is not None:
            log.exception("loop_failed", error, reason=context["message"], work=repr(work)[:200])
        else:
            log.error("loop_failed", reason=context["message"], work=repr(work)[:200])

    loop.set_exception_handler(failed)
