"""Calls that last: ``python -m bench.soak [--calls 6] [--turns-per-minute 24] [--minutes 60] [--max-slope 0.1]``

Starts an inference server with the portrait engine and an orchestrator, holds the calls with phones of real SIP and
RTP, and has each of them speak, turn after turn (``--turns-per-minute`` is of all calls together). Every sixth turn
is interrupted, in every eighth the phone holds the line and resumes (two re-INVITEs), every fifth brings keys from
the phone, every tenth keys to it. Prints a row a minute, or twelve rows in a shorter run; ``--into`` gets
the same as lines of JSON, ``soak.jsonl``, and at the end a picture, ``soak.png``.

A process is judged by the slope over the last three quarters of the time, by least squares, of its *least*
resident set among the seconds of each row: what a turn under way or garbage not yet collected adds for a moment
does not count, what stays does. Beside it are the standard error and the slope of USS, the pages that no other
process shares. Short runs tell little: caches fill for some minutes. Lost turns, keys and calls are told and
counted, and the soak goes on. Ends with status 1 where a slope is above ``--max-slope`` or a process ended.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from bench.soak.callers import Caller, Tally
from bench.soak.readings import Processes
from bench.soak.verdict import plot, series, slope
from testing.processes import gauge
from tests.support.house import House, orchestrator
from tests.support.servers import running_server
from visavis import portraits

START_S = 600.0  # at low priority on a busy machine
ROWS = 12
"""In a run that is shorter than so many minutes."""


async def soak(options: argparse.Namespace) -> bool:
    """Whether no slope was above the limit and no process ended."""
    async with running_server(
        engine="portrait", ready=False, log_level="info", max_sessions=options.calls + 5
    ) as server:
        await server.event("engine_ready", START_S)
        async with orchestrator(
            [server.address],
            wait=False,
            portrait=portraits.DEFAULT.read_bytes(),
            max_calls=options.calls + 5,
        ) as house:
            await house.ready(START_S)
            processes = Processes(house.process.pid, server.pid)
            rows = await _hold(options, house, processes)
    options.into.mkdir(parents=True, exist_ok=True)
    plot(rows, options.into / "soak.png")
    return _judge(options, rows, processes)


async def _hold(options: argparse.Namespace, house: House, processes: Processes) -> list[dict[str, Any]]:
    tally, dialling = Tally(), asyncio.Lock()
    callers = [Caller(house, number, dialling, tally) for number in range(options.calls)]
    await asyncio.gather(*(caller.call() for caller in callers))
    every = 60 * options.calls / options.turns_per_minute
    begin = time.monotonic()
    end = begin + 60 * options.minutes
    talks = [
        asyncio.create_task(_talk_after(every * number / options.calls, caller, every, end))
        for number, caller in enumerate(callers)
    ]
    rows: list[dict[str, Any]] = []
    interval = min(60.0, 60 * options.minutes / ROWS)
    options.into.mkdir(parents=True, exist_ok=True)
    with (options.into / "soak.jsonl").open("w") as file:
        while len(rows) * interval < 60 * options.minutes - 0.5:
            due = begin + (len(rows) + 1) * interval
            while (left := due - time.monotonic()) > 0:
                await asyncio.sleep(min(1.0, left))
                processes.sample()
                for caller in callers:
                    caller.listen()
            for caller in callers:
                await caller.look()
            row = await _row(time.monotonic() - begin, house, processes, tally, callers)
            rows.append(row)
            file.write(json.dumps(row) + "\n")
            file.flush()
            _tell(row)
            tally.counts.clear()
            tally.late_ms.clear()
    for task in talks:
        task.cancel()
    for result in await asyncio.gather(*talks, return_exceptions=True):
        if isinstance(result, Exception):
            print(f"a caller failed: {result!r}", file=sys.stderr)
    await asyncio.gather(*(caller.hang_up() for caller in callers))
    return rows


async def _talk_after(delay_s: float, caller: Caller, every_s: float, until: float) -> None:
    await asyncio.sleep(delay_s)
    await caller.talk(every_s, until)


async def _row(
    elapsed: float, house: House, processes: Processes, tally: Tally, callers: Sequence[Caller]
) -> dict[str, Any]:
    late = np.array(tally.late_ms or [0.0])
    try:
        clock = 1000 * await gauge(house.api, "visavis_media_lateness_p99_seconds")
    except httpx.HTTPError as error:
        tally.lost("figures", error)
        clock = None
    return {
        "minute": round(elapsed / 60, 3),
        "load": round(os.getloadavg()[0], 2),
        "calls": sum(caller.up for caller in callers),
        "voice_late_ms": {
            "p50": round(float(np.percentile(late, 50)), 2),
            "p99": round(float(np.percentile(late, 99)), 2),
            "worst": round(float(late.max()), 2),
        },
        "media_clock_p99_ms": None if clock is None else round(clock, 2),
        "counts": dict(sorted(tally.counts.items())),
        "processes": {name: reading.as_dict() for name, reading in processes.take().items()},
    }


def _tell(row: dict[str, Any]) -> None:
    counts = row["counts"]
    memory = ", ".join(
        f"{name} {r['rss_min']:.1f} MB {r['files']} files {r['threads']} threads"
        for name, r in row["processes"].items()
    )
    lost = {name: n for name, n in counts.items() if name.endswith("_lost") and n}
    print(
        f"{row['minute']:6.2f} min, load {row['load']:4.1f}: {row['calls']} calls, "
        f"{counts.get('turns_finished', 0)} turns finished, {counts.get('turns_interrupted', 0)} cut; "
        f"voice late p99 {row['voice_late_ms']['p99']:.1f} ms, worst {row['voice_late_ms']['worst']:.1f}; "
        f"{counts.get('frames_late', 0)} of {counts.get('frames_shown', 0)} pictures late; {memory}"
        + (f"; lost: {lost}" if lost else ""),
        flush=True,
    )


def _judge(options: argparse.Namespace, rows: Sequence[dict[str, Any]], processes: Processes) -> bool:
    good = not processes.ended
    for name in processes.ended:
        print(f"ended or started anew: {name}")
    shared = series(rows, "uss")
    for name, points in series(rows, "rss_min").items():
        found, own = slope(points, options.minutes), slope(shared[name], options.minutes)
        if found is None or own is None:
            print(f"{name:10} too few rows")
            good = False
            continue
        high = found.value > options.max_slope
        good = good and not high
        print(
            f"{name:10} {points[0][1]:.1f} to {points[-1][1]:.1f} MB, {found.value:+.3f} MB a minute "
            f"(standard error {found.error:.3f}; USS {own.value:+.3f})"
            + (f": more than {options.max_slope}" if high else "")
        )
    counts: dict[str, int] = {}
    for row in rows:
        for name, count in row["counts"].items():
            counts[name] = counts.get(name, 0) + count
    print(", ".join(f"{name.replace('_', ' ')} {count}" for name, count in sorted(counts.items())))
    p99 = [row["voice_late_ms"]["p99"] for row in rows]
    print(f"voice late, p99 of each row: {min(p99):.1f} to {max(p99):.1f} ms; see {options.into}")
    return good


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=6)
    parser.add_argument("--turns-per-minute", type=float, default=24.0, help="of all calls together")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--max-slope", type=float, default=0.1, help="MB a minute of any process")
    parser.add_argument(
        "--into", type=Path, default=Path("out/soak"), help="folder of soak.jsonl and soak.png"
    )
    raise SystemExit(0 if asyncio.run(soak(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
