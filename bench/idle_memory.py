"""What the processes of an orchestrator and of an inference server hold while nobody calls.

    python -m bench.idle_memory [--seconds 20]

Proportional set size (shared pages by their users), with one avatar prepared: listening and voices loaded.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from testing.processes import family
from tests.support.house import orchestrator
from tests.support.servers import running_server
from visavis import portraits

START_S = 180.0


def pss_mib(pid: int) -> float:
    """Of one process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) / 1024


def module(pid: int) -> str:
    """What the process runs: ``python -m MODULE``."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return words[words.index("-m") + 1] if "-m" in words else Path(words[0]).name


def show(name: str, pid: int) -> None:
    """A process, its children, and all of them."""
    held = {each: pss_mib(each) for each in family(pid)}
    for each, mib in held.items():
        print(f"  {mib:6.0f} MiB  {module(each)}")
    print(f"{sum(held.values()):8.0f} MiB  {name}\n")


async def measure(seconds: float) -> None:
    """Start both, wait until all is loaded, and look."""
    async with (
        running_server(engine="portrait", log_level="info", ready=False) as server,
        orchestrator(
            [server.address], wait=False, portrait=portraits.DEFAULT.read_bytes(), assistant="scripted"
        ) as house,
    ):
        await house.ready(START_S)
        await house.answering(START_S)
        await asyncio.sleep(seconds)
        show("orchestrator", house.process.pid)
        show("inference, engine portrait", server.pid)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0, help="of rest before the look")
    asyncio.run(measure(parser.parse_args().seconds))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
