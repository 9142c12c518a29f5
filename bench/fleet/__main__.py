"""Failures of a fleet under real calls: what a caller notices of each.

    python -m bench.fleet [--servers 8] [--calls 60] [--orchestrators 2] [--only TEXT] [--into docs/kubernetes.md]

Real processes on one machine: inference servers with the mock engine on addresses of 127.0.0.0/8 (at a lower
priority: they stand for other machines), a DNS server of this script's own, orchestrators that ask it, and phones
that record their calls. Each call talks half of the time, in turns of five seconds. Lateness is of the kernel's
time stamps at the phone, against the call's own fastest packet; lips are read from the received pictures (160x160,
25 a second) by the test card's frame numbers. Ends with status 1 and a line for all that is not as it must be.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

from bench.fleet.play import HEADER, play
from bench.fleet.scenes import SCENES
from bench.fleet.servers import Fleet
from testing.nameserver import NameServer
from testing.page import mark, write_into
from testing.ports import free_port
from tests.support.house import orchestrator, picture
from visavis.client.avatar_client import AvatarClient

NAME = "inference.visavis.test"
SIZE = 160
COMMAND = "python -m bench.fleet"


async def main() -> int:
    """Play the scenes; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servers", type=int, default=8)
    parser.add_argument("--calls", type=int, default=60)
    parser.add_argument("--slots", type=int, default=6, help="speaking slots of a server")
    parser.add_argument("--orchestrators", type=int, default=2)
    parser.add_argument("--only", default="", help="only scenes whose name has this in it")
    parser.add_argument("--into", type=Path, help=f"page whose table after {mark(COMMAND)} is replaced")
    options = parser.parse_args()
    about = (
        f"{options.servers} servers of {options.slots} slots, {options.calls} calls, {options.orchestrators} "
        f"orchestrators, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before:\n"
    )
    rows, wrong = [about, HEADER], []
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="visavis-bench-", ignore_cleanup_errors=True)
            )
        )
        names = await stack.enter_async_context(NameServer(NAME))
        fleet = Fleet(folder, free_port(), options.slots, names)
        stack.push_async_callback(fleet.close)
        for _ in range(options.servers):
            await fleet.start()
        image = picture()
        houses = [
            await stack.enter_async_context(
                orchestrator(
                    f"dns:///{NAME}:{fleet.port}",
                    portrait=image,
                    avatar_nameserver=names.address,
                    size=f"{SIZE}x{SIZE}",
                )
            )
            for _ in range(options.orchestrators)
        ]
        async with AvatarClient(f"{next(iter(fleet.servers))}:{fleet.port}") as client:
            avatar = await client.prepare(image, SIZE, SIZE, Fraction(25))
        print("\n".join(rows))
        for scene in SCENES:
            if options.only not in scene.name:
                continue
            outcome = await play(fleet, houses, avatar, scene, options.calls)
            rows.append(outcome.row(scene.name))
            wrong += outcome.wrong(scene)
            print(rows[-1], flush=True)
    if options.into:
        write_into(options.into, COMMAND, "\n".join(rows))
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
