"""The media path: CPU per video frame, and how late audio packets leave.

    python -m bench.media [--seconds 6] [--runs 3] [--quick] [--only NAME] [--roomkit PYTHON]

The media host runs in a process of its own, with each phone's audio (50 packets a second) and video (25
pictures of three packets) arriving from another process. CPU is what the host's process used, all threads and
the kernel's share of its calls included, divided by the video frames that were due ("coded": the share of them
that live encoders coded; it falls where the machine is too small or too busy).

References in the same run: "bare sockets" is a process that wakes up on the same ticks, sends and receives the
same packets and does nothing else; "RoomKit" is ``PyAVVideoEncoder`` of roomkit 0.109 on the same pictures, run by
an interpreter that has it (``--roomkit``; Python 3.12 or later).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from bench.media.host import FPS, Scenario, portrait_loop, run_host
from bench.media.phones import run_phones
from bench.media.reference import roomkit, run_bare


def measure(scenario: Scenario, run: Callable[[Connection, Any], None] = run_host) -> dict[str, float]:
    """Run host and phones once; ``run`` is what stands in for the host."""
    context = multiprocessing.get_context("spawn")
    host_pipe, host_end = context.Pipe()
    phones_pipe, phones_end = context.Pipe()
    phones = context.Process(
        target=run_phones, args=(phones_end, scenario.idle + scenario.speaking, scenario.core)
    )
    host = context.Process(target=run, args=(host_end, scenario))
    phones.start()
    host.start()
    host_pipe.send(phones_pipe.recv())
    phones_pipe.send(host_pipe.recv())
    figures: dict[str, float] = host_pipe.recv()
    phones_pipe.send(None)
    host.join()
    phones.join()
    return figures


def scenarios(seconds: float) -> list[Scenario]:
    """Everything that is measured, in order."""
    cores = os.cpu_count() or 1
    # 1.5 times the machine: a live picture of this size costs about 1.3 ms of one core.
    many = round(1.5 * cores * 1000 / (1.3 * FPS))
    return [
        *(Scenario(f"{n} idle", n, 0, seconds) for n in (1, 10, 30)),
        *(Scenario(f"{n} speaking", 0, n, seconds) for n in (1, 10, 30)),
        Scenario("30 idle + 10 speaking, one core", 30, 10, seconds, core=cores - 1),
        Scenario("300 idle", 300, 0, seconds),
        Scenario(f"overload: {many} speaking", 0, many, max(seconds, 30.0)),
    ]


def main() -> None:
    """Print medians over the runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="10 idle and 10 speaking calls only")
    parser.add_argument("--only", default="", help="only scenarios whose name holds this")
    parser.add_argument("--roomkit", default="", help="a Python interpreter that has roomkit 0.109")
    options = parser.parse_args()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load} before the bench; medians of {options.runs} runs")
    print(f"{'scenario':33}{'ms/frame':>9}{'user':>7}{'system':>7}{'coded':>6}{'encode':>7}{'cores':>6}"
          f"{'late p50':>9}{'p99':>7}{'max':>7}{'video p99':>10}{'refused':>8}")  # fmt: skip
    for scenario in scenarios(options.seconds):
        if options.only not in scenario.name:
            continue
        if options.quick and scenario.name not in ("10 idle", "10 speaking"):
            continue
        runs = [measure(scenario) for _ in range(options.runs if scenario.seconds < 20 else 1)]
        row: dict[str, Any] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        print(
            f"{scenario.name:33}{row['ms_per_frame']:9.4f}{row['user']:7.3f}{row['system']:7.3f}"
            f"{row['coded']:6.2f}{row['encode_ms']:7.2f}{row['cores']:6.2f}{row['p50']:9.2f}{row['p99']:7.2f}"
            f"{row['max']:7.1f}{row['video_p99']:10.1f}{'yes' if row['refused'] else 'no':>8}",
            flush=True,
        )
        if scenario.idle and not scenario.speaking:
            bare = [measure(scenario, run_bare)["ms_per_frame"] for _ in range(options.runs)]
            print(f"{'   bare sockets':33}{statistics.median(bare):9.4f}", flush=True)
    if options.roomkit:
        print(roomkit(options.roomkit, portrait_loop(512)))


if __name__ == "__main__":
    main()
