"""Ctrl-C on a terminal: whatever is under way, it ends, all of it, without a trace of Python's."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.examples.test_run import environment
from tests.support.house import ROOT, START_S
from tests.support.terminal import on_terminal

pytestmark = pytest.mark.process
COMMANDS = {
    "demo": ("examples.demo", "--size", "128x128", "--engine", "mock", "--out"),
    "run": ("examples.run",),
    "orchestrator": ("orchestrator",),
    "inference_server": ("inference_server",),
}


@pytest.mark.parametrize("moment", [0.3, 0.7, 1.5, 2.5])
@pytest.mark.parametrize("name", COMMANDS)
def test_it_ends_without_a_trace(tmp_path: Path, name: str, moment: float) -> None:
    command = [sys.executable, "-m", *COMMANDS[name], *([str(tmp_path / "out")] if name == "demo" else [])]
    status, said = on_terminal(command, ROOT, environment(tmp_path), press_after=moment, within_s=START_S)
    assert status in (0, -signal.SIGINT), said
    assert "Traceback" not in said and "KeyboardInterrupt" not in said, said


def test_the_services_on_a_terminal_say_lines_to_read_until_they_are_ready(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "examples.run"]
    status, said = on_terminal(
        command, ROOT, environment(tmp_path), press_after="Ready. Call", within_s=START_S
    )
    assert status == 0, said
    assert "Not ready yet: " in said
    assert "no inference server answers" not in said  # it starts, which is nobody's to mend
    assert " orchestrator started sip=UDP:127.0.0.1:" in said
    assert not [line for line in said.splitlines() if line.startswith("{")]
