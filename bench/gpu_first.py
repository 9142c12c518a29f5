"""The first thing to run on a machine with a GPU: eight steps that say what works there and how fast it is.

    python -m bench.gpu_first [--limit 300] [--dir models] [--only NAME,...] [--out out/gpu-first]

Every step is a process of its own, so one that fails or hangs costs only itself; a step for which too little of
--limit (seconds, for the whole run) is left is skipped. Figures are printed as they come and lie in figures.json,
everything that was printed in log.txt. Without --dir random weights of the official sizes are made; no network is
needed. The exit code is 0 where all steps that ran succeeded.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

THIS = "bench.gpu_first"


@dataclass(frozen=True)
class Step:
    """``name``: of its function in ``bench.gpu.steps``. ``needs_s``: with less left it is not begun. ``most_s``: it
    is stopped after so long."""

    name: str
    title: str
    needs_s: float
    most_s: float


STEPS = (
    Step("versions", "versions, driver and the chosen device", 5, 60),
    Step("load", "weights, loading and warm-up by stage", 10, 150),
    Step("pictures", "right pictures: captured and plain, buckets, half and full precision", 15, 60),
    Step("costs", "cost by bucket, first frame", 10, 60),
    Step("parts", "where the time goes: networks, kernels", 15, 60),
    Step("live", "streams in real time", 30, 80),
    Step("memory", "out of memory", 15, 60),
    Step("helps", "what would help: TAESD, the lower face, compiling", 40, 150),
)


class Report:
    """What the run found, on the terminal and in the output folder as it comes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.results: list[dict[str, Any]] = []
        self._json = folder / "figures.json"
        self._log = (folder / "log.txt").open("w")

    def say(self, line: str) -> None:
        """One line."""
        print(line, flush=True)
        print(line, file=self._log, flush=True)

    def add(self, step: Step, state: str, seconds: float, figures: Any) -> None:
        """A step has ended: ``state`` is ``ok``, ``failed``, ``stopped`` or ``skipped``."""
        made = {"step": step.name, "state": state, "seconds": round(seconds, 1), "figures": figures}
        self.results.append(made)
        self._json.write_text(json.dumps(self.results, indent=2) + "\n")
        for name, value in (figures or {}).items():
            self.say(f"   {name}: {json.dumps(value)}")
        self.say(f"   {state} after {seconds:.1f} s")

    def close(self) -> None:
        """No more lines."""
        self._log.close()


def run_step(step: Step, command: list[str], most_s: float, report: Report) -> None:
    """One step in a process group of its own, which is gone at the end."""
    began = time.monotonic()
    found: list[Any] = []
    process = subprocess.Popen(
        [*command, "--step", step.name],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    assert process.stdout is not None
    reader = threading.Thread(target=_read, args=(process.stdout, found, report.say), daemon=True)
    reader.start()
    stopped = False
    try:
        process.wait(most_s)
    except subprocess.TimeoutExpired:
        stopped = True
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # compilers it has started, too
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)  # one that waits in the driver does not end even so
    reader.join(5)
    figures = found[0] if found else None
    state = "stopped" if stopped else "ok" if process.returncode == 0 and found else "failed"
    report.add(step, state, time.monotonic() - began, figures)


def _read(stream: IO[str], found: list[Any], say: Callable[[str], None]) -> None:
    with stream:
        for line in stream:
            if line.startswith("FIGURES "):
                found.append(json.loads(line.removeprefix("FIGURES ")))
            else:
                say(f"   | {line.rstrip()}")


def main(argv: list[str] | None = None, steps: tuple[Step, ...] = STEPS) -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for the whole run")
    parser.add_argument("--dir", type=Path, help="folder of real weights")
    parser.add_argument("--size", choices=("full", "tiny"), default="full", help="of the random weights")
    parser.add_argument("--device", default="auto", help="as the engine's setting")
    parser.add_argument("--batch", type=int, default=16, help="largest bucket")
    parser.add_argument("--out", type=Path, default=Path("out/gpu-first"), help="folder of the results")
    parser.add_argument(
        "--decoder", choices=("sd-vae", "taesd"), default="sd-vae", help="as the engine's setting"
    )
    parser.add_argument(
        "--norms", choices=("torch", "fused"), default="torch", help="as the engine's setting"
    )
    parser.add_argument("--only", help="names of the steps, between commas")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.step:
        return _child(options)
    began = time.monotonic()
    report = Report(options.out)
    command = [sys.executable, "-m", THIS, *(sys.argv[1:] if argv is None else argv)]
    for number, step in enumerate(steps, 1):
        if options.only and step.name not in options.only.split(","):
            continue
        report.say(f"== {number} {step.title}")
        left = options.limit - (time.monotonic() - began)
        if left < step.needs_s:
            report.say(f"   {step.name} needs {step.needs_s:.0f} s and {max(left, 0):.0f} are left")
            report.add(step, "skipped", 0.0, None)
            continue
        run_step(step, command, min(left, step.most_s), report)
    report.say(f"== {time.monotonic() - began:.0f} s; figures and log are in {options.out}")
    report.close()
    return int(any(one["state"] in ("failed", "stopped") for one in report.results))


def _child(options: argparse.Namespace) -> int:
    from bench.gpu import steps  # with torch, which takes seconds and may fail

    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    weights = options.dir or options.out / f"weights-{options.size}"
    order = steps.Order(
        weights,
        options.out / "cache",
        options.size == "tiny",
        options.device,
        options.batch,
        options.decoder,
        options.norms,
    )
    try:
        figures = getattr(steps, options.step)(order)
    except Exception as error:
        traceback.print_exc(limit=-3)
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    print("FIGURES " + json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # a driver that hangs must not keep the process
