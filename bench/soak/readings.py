"""What the system says of the processes under test."""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from testing.processes import family

MB = 1_000_000
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Reading:
    """One process over an interval; sizes in MB (10^6 bytes).

    ``rss_min`` is the least resident set of the interval's seconds: what a collection of garbage or a turn's own
    sound adds for a moment does not count. ``pss`` shares common pages among their users and ``uss`` leaves them
    out; both as they were at the end.
    """

    pid: int
    rss_min: float
    rss_median: float
    pss: float
    uss: float
    files: int
    threads: int

    def as_dict(self) -> dict[str, Any]:
        """For a line of JSON."""
        return {name: round(value, 3) for name, value in asdict(self).items()}


class Processes:
    """The processes of an orchestrator and of an inference server, by name; ``sample`` them once a second."""

    def __init__(self, orchestrator: int, inference: int) -> None:
        self._roots = {"control": orchestrator, "inference": inference}
        self._rss: dict[tuple[str, int], list[float]] = defaultdict(list)
        self.ended: list[str] = []
        """Those that ended or were started anew, each time."""
        self._known: dict[str, int] = {}

    def sample(self) -> None:
        """Note every process' resident set."""
        now = self._named()
        for name, pid in self._known.items():
            if now.get(name) != pid:
                self.ended.append(f"{name} ({pid})")
        self._known = now
        for name, pid in now.items():
            with contextlib.suppress(OSError):
                pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
                self._rss[name, pid].append(pages * _PAGE / MB)

    def take(self) -> dict[str, Reading]:
        """The readings since the last call, of processes that are there."""
        out = {}
        for (name, pid), rss in self._rss.items():
            with contextlib.suppress(OSError):
                out[name] = _read(pid, rss)
        self._rss.clear()
        return out

    def _named(self) -> dict[str, int]:
        named = {}
        for name, root in self._roots.items():
            with contextlib.suppress(OSError):
                pids = family(root)
                named[name] = root
                for pid in pids[1:]:
                    if (own := _name(pid, named)) is not None:
                        named[own] = pid
        return named


def _name(pid: int, taken: dict[str, int]) -> str | None:
    """None for one that comes and goes, such as what prepares an avatar."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return None
    if "orchestrator.worker.worker" in command:
        return f"media {sum(name.startswith('media') for name in taken) + 1}"
    return "engine" if "engine_worker" in command else None


def _read(pid: int, rss: list[float]) -> Reading:
    folder = Path(f"/proc/{pid}")
    sizes: dict[str, int] = {}
    for line in (folder / "smaps_rollup").read_text().splitlines()[1:]:
        name, value, *_ = line.split()
        sizes[name.rstrip(":")] = 1024 * int(value)
    own = sizes["Private_Clean"] + sizes["Private_Dirty"]
    return Reading(
        pid,
        min(rss),
        median(rss),
        sizes["Pss"] / MB,
        own / MB,
        len(list((folder / "fd").iterdir())),
        len(list((folder / "task").iterdir())),
    )
