"""The orchestrator's processes and figures, seen from outside."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import httpx

_HERTZ = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Process:
    """One process as the system sees it now."""

    pid: int
    cpu_s: float
    rss_kib: int
    files: int

    @classmethod
    def read(cls, pid: int) -> Process:
        """Raises ``OSError`` when it is gone."""
        folder = Path(f"/proc/{pid}")
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        status = (folder / "status").read_text()
        rss = int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))
        cpu = (int(fields[11]) + int(fields[12])) / _HERTZ
        return cls(pid, cpu, rss, len(list((folder / "fd").iterdir())))


def family(pid: int) -> list[int]:
    """A process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *map(int, children)]


async def gauge(api: httpx.AsyncClient, name: str) -> float:
    """The largest value of a metric over its labels at ``/metrics``; 0 where there is none."""
    text = (await api.get("/metrics")).text
    return max((float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.M)), default=0.0)
