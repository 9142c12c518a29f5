"""A test's marks are true: no process without ``process``, no program of others without ``peer``, no hidden torch.

A plugin of ``tests/conftest.py``. It looks at the outer edge: what Python is about to execute or fork, and which
modules are imported. A test that starts what its marks do not name is stopped there and fails with a sentence; one
that passes without what they name fails as well. What a fixture starts counts for every test that uses it.
"""

from __future__ import annotations

import multiprocessing.util
import os
import shutil
import sys
from collections.abc import Generator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

TOOLS = {"bash", "git", "make", "uname"}
"""Programs that are no peer: what every machine with a checkout has, and what Python itself runs."""
SLOW_S = 10.0
WRAPPERS = {"nice", "setsid", "env"}
"""Programs that run another one: that one is looked at."""
PYTHON_PEERS = ("pjsua_phone",)
"""Peers that are a Python module in a process of its own."""
CONTAINER_TOOLS = {"docker", "podman", "dockerd", "containerd"}


def kind(program: str, arguments: Sequence[str]) -> set[str]:
    """The marks that starting this program takes."""
    name = Path(program).name
    if name in WRAPPERS:
        words = [
            word for word in arguments[1:] if not word.lstrip("-").isdigit() and not word.startswith("-")
        ]
        return kind(words[0], words)
    if is_python(program):
        foreign = any(peer in argument for argument in arguments for peer in PYTHON_PEERS)
        return {"process", "peer"} if foreign else {"process"}
    if name in CONTAINER_TOOLS:
        return {"process", "container"}
    return {"process"} if name in TOOLS else {"process", "peer"}


def is_python(program: str) -> bool:
    """Whether it is the interpreter that runs the tests."""
    path = shutil.which(program) or program
    return Path(path).resolve() == Path(sys.executable).resolve()


class Marks:
    """What the test under way, and the fixtures that last longer than one, have started."""

    def __init__(self) -> None:
        self._item: pytest.Item | None = None
        self._needed: dict[str, str] = {}
        self._fixtures: list[Any] = []
        self._by_fixture: dict[Any, dict[str, str]] = {}

    def starts(self, program: str, arguments: Sequence[str]) -> None:
        """A program is about to start; raises where the test's marks do not name it."""
        if self._item is None:
            return
        missing = self._note(kind(program, arguments), Path(program).name)
        if missing:
            pytest.fail(missing, pytrace=False)

    def _note(self, marks: set[str], what: str) -> str:
        assert self._item
        for mark in marks:
            self._needed.setdefault(mark, what)
            for fixture in self._fixtures:
                self._by_fixture.setdefault(fixture, {}).setdefault(mark, what)
        return wrong(self._item, dict.fromkeys(marks, what))

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._item, self._needed = item, {}
        try:
            return (yield)
        finally:
            self._item = None

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Generator[None, object, object]:
        self._fixtures.append(fixturedef)
        try:
            return (yield)
        finally:
            self._fixtures.pop()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        result = yield
        for started in self._lasting(item):
            self._needed |= started
        missing = wrong(item, self._needed)
        if missing:
            pytest.fail(missing, pytrace=False)
        return result

    def _lasting(self, item: pytest.Item) -> list[dict[str, str]]:
        definitions = getattr(item, "_fixtureinfo").name2fixturedefs.values()  # noqa: B009
        return [self._by_fixture[d[-1]] for d in definitions if d and d[-1] in self._by_fixture]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """What a test swallowed (a refused start is an error to the code under test) fails it all the same."""
        had_torch = "torch" in sys.modules
        result = yield
        if "torch" in sys.modules and not had_torch:
            self._note({"torch"}, "torch")
        message = wrong(item, self._needed) or unneeded(item, self._needed)
        if message:
            pytest.fail(message, pytrace=False)
        return result

    def pytest_ignore_collect(self, collection_path: Path, config: pytest.Config) -> bool | None:
        """Torch takes seconds to import: its modules are not looked into where they are not wanted."""
        unwanted = "not torch" in str(config.getoption("markexpr")) and collection_path.suffix == ".py"
        return True if unwanted and _marked_torch(collection_path) else None

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(
        self, collector: pytest.Collector
    ) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
        """A module marked ``torch`` is skipped, by name, where torch is not installed."""
        had_torch = "torch" in sys.modules
        report = yield
        if not isinstance(collector, pytest.Module):
            return report
        marked = _marked_torch(collector.path)
        if report.failed and "torch" in str(report.longrepr) and not installed("torch") and marked:
            report.outcome = "skipped"
            report.longrepr = (str(collector.path), 1, "Skipped: torch is not installed: make test-torch")
        elif report.passed and "torch" in sys.modules and not had_torch and not marked:
            report.outcome = "failed"
            report.longrepr = f"{collector.nodeid} imports torch: give it `pytestmark = pytest.mark.torch`"
        return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name slow tests that are not marked so; no failure, since the machine may have been busy."""
    for report in terminalreporter.stats.get("passed", []):
        if report.when == "call" and report.duration > SLOW_S and "slow" not in report.keywords:
            terminalreporter.line(f"SLOW {report.nodeid}: {report.duration:.0f} s, and not marked slow")


def _marked_torch(module: Path) -> bool:
    """Whether a module as a whole is marked, seen without importing it."""
    lines = module.read_text(encoding="utf-8").splitlines()
    return any(line.startswith("pytestmark") and "mark.torch" in line for line in lines)


def installed(module: str) -> bool:
    """Whether it can be imported."""
    return find_spec(module) is not None


def names(item: pytest.Item) -> set[str]:
    """Of a test's marks."""
    return {mark.name for mark in item.iter_markers()}


def wrong(item: pytest.Item, needed: dict[str, str]) -> str:
    """The sentence for what a test starts and its marks do not name; empty where all is said."""
    missing = {mark: what for mark, what in needed.items() if mark not in names(item)}
    if "container" in names(item):
        missing.pop("peer", None)
    if not missing:
        return ""
    marks = ", ".join(f"@pytest.mark.{mark}" for mark in sorted(missing))
    return f"{item.nodeid} starts {' and '.join(sorted(set(missing.values())))}: mark it {marks}"


def unneeded(item: pytest.Item, needed: dict[str, str]) -> str:
    """The sentence for a mark of a test that passed without what it names."""
    idle = {"process", "peer"} & names(item) - needed.keys()
    if "roomkit" in sys.modules:
        idle.discard("peer")  # RoomKit itself
    if "container" in names(item) or not idle:
        return ""
    return f"{item.nodeid} passed without what its marks name: take away {', '.join(sorted(idle))}"


MARKS = Marks()


def took_part(program: str) -> None:
    """Tell that what follows was made by this program, now or, kept by a helper, for an earlier test."""
    MARKS.starts(program, [program])


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "subprocess.Popen":
        program, argv = arguments[0], arguments[1]
        words = [argv] if isinstance(argv, (str, bytes)) else list(argv)
        MARKS.starts(os.fsdecode(program or words[0]), [os.fsdecode(word) for word in words])
    elif event in ("os.fork", "os.forkpty"):
        MARKS.starts(sys.executable, [])
    elif event == "os.system":
        MARKS.starts("sh", [])


def pytest_configure(config: pytest.Config) -> None:
    """Look at every program that is started from here on: multiprocessing starts its own past the audit event."""
    spawn = multiprocessing.util.spawnv_passfds

    def watched(path: Any, args: Sequence[Any], passfds: Sequence[int]) -> int:
        MARKS.starts(os.fsdecode(path), [os.fsdecode(word) for word in args])
        return spawn(path, args, passfds)

    sys.addaudithook(_audit)
    multiprocessing.util.spawnv_passfds = watched
    config.pluginmanager.register(MARKS, "marks")
