"""``bench.gpu_first``: every step on the CPU with tiny weights, and steps that fail, hang or come too late."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import gpu_first
from bench.gpu import steps
from bench.gpu_first import STEPS, Report, Step, main, run_step

pytestmark = pytest.mark.torch


def results(folder: Path) -> dict[str, Any]:
    return {one["step"]: one for one in json.loads((folder / "figures.json").read_text())}


@pytest.mark.process
@pytest.mark.slow
def test_all_steps_on_the_cpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    order = ["--size", "tiny", "--device", "cpu", "--batch", "2", "--limit", "900", "--out", str(out)]
    assert main(order) == 0, (out / "log.txt").read_text()
    made = results(out)
    assert [one["state"] for one in made.values()] == ["ok"] * 8
    assert list(made) == [step.name for step in STEPS]
    assert made["load"]["figures"]["stages"][-1][1].endswith("on the CPU")
    assert made["pictures"]["figures"]["bucket 2"]["captured_plain_levels"] == 0
    assert made["costs"]["figures"]["bucket 2"]["batch_ms"] > 0
    assert made["memory"]["figures"]["after"] == "2 drawn"
    said = capsys.readouterr().out
    assert said == (out / "log.txt").read_text() and "== 8 what would help" in said


def test_every_step_has_its_function() -> None:
    assert len(STEPS) == 8 and all(callable(getattr(steps, step.name)) for step in STEPS)


CHILD = """
import subprocess, sys, time
step = sys.argv[-1]
print("begun", step, flush=True)
if step == "hangs":
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(600)
if step == "dies":
    import os, signal
    os.kill(os.getpid(), signal.SIGSEGV)
print('FIGURES {"fps": 7}')
"""


@pytest.mark.process
def test_a_step_that_dies_or_hangs_costs_itself(tmp_path: Path) -> None:
    report = Report(tmp_path)
    command = [sys.executable, "-c", CHILD]
    began = time.monotonic()
    for name, most_s in (("dies", 20.0), ("hangs", 1.0), ("works", 20.0)):
        run_step(Step(name, name, 1, most_s), command, most_s, report)
    report.close()
    assert time.monotonic() - began < 15
    made = results(tmp_path)
    assert [made[n]["state"] for n in ("dies", "hangs", "works")] == ["failed", "stopped", "ok"]
    assert made["works"]["figures"] == {"fps": 7} and made["hangs"]["figures"] is None
    assert "   | begun hangs" in (tmp_path / "log.txt").read_text()


def test_a_step_with_too_little_time_left_is_skipped_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed: list[tuple[str, float]] = []

    def quick(step: Step, command: list[str], most_s: float, report: Report) -> None:
        allowed.append((step.name, most_s))
        report.add(step, "ok", 0.0, {})

    monkeypatch.setattr(gpu_first, "run_step", quick)
    steps = (Step("short", "short", 5, 60), Step("long", "long", 100, 200), Step("last", "last", 5, 20))
    assert main(["--limit", "50", "--out", str(tmp_path)], steps) == 0
    assert [name for name, _ in allowed] == ["short", "last"]
    assert 45 < allowed[0][1] <= 50 and allowed[1][1] == 20
    assert results(tmp_path)["long"]["state"] == "skipped"
    assert "long needs 100 s and" in (tmp_path / "log.txt").read_text()
