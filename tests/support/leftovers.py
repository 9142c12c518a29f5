"""What a test leaves behind fails it by name: descriptors, threads, asyncio tasks, processes, files.

A plugin of ``tests/conftest.py``. Before and after each test it reads what this process has open; only where that
differs does it collect garbage and wait a moment. What a module's or a session's fixture opens is the fixture's.
Temporary files of a run have a folder of their own, so that other programs' files are not taken for a test's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import pytest

from tests.support.marks import names

GRACE_S = float(os.environ.get("LEFTOVERS_GRACE_S", "2"))
"""A thread or a process that was told to end is given this long."""
RUN = "VISAVISTESTS_RUN"
"""In the environment of every process that a run starts, wherever it ends up in the tree of processes."""
KEPT: set[str] = set()
"""Files that a helper of the tests makes once a run, by :func:`keep`."""


ENDINGS: list[Callable[[], Awaitable[None]]] = []


def before_the_loop_closes(ending: Callable[[], Awaitable[None]]) -> None:
    """Have this awaited after the test under way, before its tasks are counted: a fake clock runs out."""
    ENDINGS.append(ending)


OF_THE_ENGINE = ("AF_UNIX", "containerd", "docker-proxy", "dockerd", "visavis-engine")
"""A container engine's: itself, its folder, its client's connections, who holds the containers of a module."""


def keep(folder: Path) -> Path:
    """Tell that a temporary folder is made once and serves the rest of the run."""
    KEPT.add(folder.name)
    return folder


def descriptors() -> dict[str, int]:
    """Open descriptors by number and what they are."""
    found = {}
    kept = getattr(resource_tracker, "_resource_tracker")._fd  # noqa: B009 - one process for all of a run
    for entry in list(os.scandir("/proc/self/fd")):
        if entry.name == str(kept):
            continue
        try:
            found[f"{entry.name} {Path(entry.path).readlink()}"] = int(entry.name)
        except OSError:
            continue  # the listing's own
    return found


def described(name: str, number: int) -> str:
    """A descriptor in words: a socket with its address."""
    if "socket:" not in name:
        return f"descriptor {name}"
    try:
        with socket.socket(fileno=os.dup(number)) as sock:
            return f"socket {number} ({sock.family.name} {sock.type.name} {sock.getsockname()})"
    except OSError:
        return f"socket {number}"


def threads() -> set[threading.Thread]:
    """Python's threads, without those of an event loop's own executor: they end with the loop."""
    return {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")}


def processes() -> dict[str, str]:
    """Processes of this run but for this one, by pid, with their command line."""
    own = f"{RUN}={os.getpid()}".encode()
    found = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        folder = Path(entry.path)
        try:
            if own in (folder / "environ").read_bytes().split(b"\0") or _is_child(folder):
                found[entry.name] = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:120]
        except OSError:
            continue  # gone, or another user's
    return {pid: line for pid, line in found.items() if line and "resource_tracker" not in line}


def _is_child(folder: Path) -> bool:
    return int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1]) == os.getpid()


def files() -> set[str]:
    """Names in the run's temporary folder and in the working directory."""
    here = {
        entry.path
        for entry in os.scandir(".")
        if not entry.name.startswith((".", "__pycache__", "visavis.egg-info"))
    }
    return here | {entry.path for entry in os.scandir(tempfile.gettempdir()) if entry.name not in KEPT}


class Leftovers:
    """Compares before and after."""

    def __init__(self) -> None:
        self._watching = False
        self._descriptors: set[str] = set()
        self._threads: set[threading.Thread] = set()
        self._files: set[str] = set()
        self._processes: set[str] = set()
        self._tasks: list[str] = []

    def _take(self, item: pytest.Item) -> None:
        self._descriptors = set(descriptors())
        self._threads = threads()
        self._files = files()
        self._processes = set(processes()) if "process" in names(item) else set()
        self._tasks = []
        ENDINGS.clear()

    def _left(self, item: pytest.Item) -> list[str]:
        found = [described(*one) for one in descriptors().items() if one[0] not in self._descriptors]
        found += [f"thread {thread.name}" for thread in threads() - self._threads]
        found += [f"file {name}" for name in sorted(files() - self._files)]
        if "process" in names(item):
            found += [f"process {p} ({line})" for p, line in processes().items() if p not in self._processes]
        if "container" in names(item):
            found = [each for each in found if not any(mark in each for mark in OF_THE_ENGINE)]
        return found

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._take(item)
        self._watching = True
        return (yield)

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any, request: Any) -> Generator[None, object, object]:
        """What lasts longer than one test is not that test's."""
        if fixturedef.scope == "function":
            return (yield)
        before, alive, seen = set(descriptors()), threads(), files()
        running = set(processes())
        try:
            return (yield)
        finally:
            self._descriptors |= set(descriptors()) - before
            self._threads |= threads() - alive
            self._files |= files() - seen
            self._processes |= set(processes()) - running

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, object, object]:
        result = yield
        self._watching = False
        garbage: list[str] = []
        left = self._left(item)
        if left:
            if isinstance(item, pytest.Function):
                item.funcargs.clear()  # what pytest itself would hold on to until the next test
            let_go_of_logs(item.config)
            garbage = collected()
            deadline = time.monotonic() + GRACE_S
            while (left := self._left(item)) and time.monotonic() < deadline:
                time.sleep(0.02)
        left += [f"to the garbage collector: {what}" for what in garbage]
        left += self._tasks
        if left:
            pytest.fail(f"{item.nodeid} left behind: " + "; ".join(left), pytrace=False)
        return result

    def closing(self, loop: asyncio.AbstractEventLoop) -> None:
        """An event loop is about to close: which tasks would be cancelled with it?"""
        if not self._watching:
            return
        while ENDINGS:
            loop.run_until_complete(_until_over(ENDINGS.pop()))
        if not (pending := asyncio.all_tasks(loop)):
            return
        loop.run_until_complete(asyncio.wait(pending, timeout=GRACE_S))
        self._tasks += [
            f"task {getattr(task.get_coro(), '__qualname__', task.get_coro())}"
            for task in pending
            if not task.done()
        ]


def let_go_of_logs(config: pytest.Config) -> None:
    """What pytest keeps of a test's log holds tracebacks, and with them what their frames had open."""
    plugin = config.pluginmanager.get_plugin("logging-plugin")
    for handler in (plugin.caplog_handler, plugin.report_handler) if plugin else ():
        handler.records.clear()


async def _until_over(ending: Callable[[], Awaitable[None]]) -> None:
    await ending()


def collected() -> list[str]:
    """Collect garbage; returns what complained that nobody had closed it."""
    said: list[str] = []
    before = sys.unraisablehook
    sys.unraisablehook = lambda it: said.append(f"{it.exc_value or it.err_msg}")
    try:
        gc.collect()
    finally:
        sys.unraisablehook = before
    return said


LEFTOVERS = Leftovers()


def pytest_configure(config: pytest.Config) -> None:
    """A temporary folder of the run's own, and an eye on every event loop that closes."""
    # Beside the folder of the run that started this one: paths of sockets must stay short.
    root = os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    folder = tempfile.mkdtemp(prefix="visavis-tests-", dir=root)
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    os.environ[RUN] = str(os.getpid())
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    close: Callable[[asyncio.Runner], None] = asyncio.Runner.close

    def watched(runner: asyncio.Runner) -> None:
        try:
            loop = runner.get_loop()
        except RuntimeError:
            return close(runner)  # closed already
        LEFTOVERS.closing(loop)
        return close(runner)

    asyncio.Runner.close = watched  # type: ignore[method-assign,assignment]
    config.pluginmanager.register(LEFTOVERS, "leftovers")


def pytest_collection_finish() -> None:
    """What was imported by now stays: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
