"""Failures of a fleet of server processes, under conversations that talk half of the time: how long lips are away.

    python -m bench.fleet [--servers 4] [--calls 10]

Prints the table of docs/kubernetes.md. The servers have the mock engine and stand on addresses of 127.0.0.0/8
behind one name, whose answers this script gives in place of the resolver. Conversations are the client library's
(256x256, 25 fps), without telephony: audio does not pass through what fails here.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

import visavis.pool
from bench.ports import free_port
from visavis.body import Body, BodyCache
from visavis.frames import Frame, frame_start
from visavis.messages import Event, TurnFinished, TurnRejected
from visavis.model import Avatar, AvatarSource
from visavis.playout import Playout
from visavis.pool import ServerPool

FPS = Fraction(25)
SIZE = 256
TURN_S = 5.0
SCENE_S = 15.0
AFTER_S = 4.0
READY_S = 90.0


@dataclass
class Fleet:
    """Server processes by address, and what the name answers."""

    directory: Path
    port: int
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    listed: set[str] = field(default_factory=set)

    async def start(self, host: str) -> None:
        """Start the server of this address; returns when its engine is ready, and the name lists it."""
        settings = {
            "host": host,
            "port": self.port,
            "http": "false",
            "engine": "mock",
            "slots": 8,
            "drain_s": 5,
            "cache_dir": self.directory / host,
        }
        env = os.environ | {f"VISAVIS_INFERENCE_{k.upper()}": str(v) for k, v in settings.items()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "inference_server"), env=env, stderr=asyncio.subprocess.PIPE
        )
        self.processes[host] = process
        assert process.stderr is not None
        async with asyncio.timeout(READY_S):
            async for line in process.stderr:
                if b"engine_ready" in line:
                    break
        asyncio.get_running_loop().create_task(_drain(process.stderr))
        self.listed.add(host)

    async def end(self, host: str, number: signal.Signals) -> None:
        """Signal it, and take it from the name as Kubernetes would; returns when it has gone."""
        self.processes[host].send_signal(number)
        self.listed.discard(host)
        await self.processes[host].wait()

    async def resolve(self, target: str, known: Sequence[str]) -> list[str]:
        """In place of :func:`visavis.resolve.resolve`."""
        return [f"{host}:{self.port}" for host in sorted(self.listed)]


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


@dataclass
class Scene:
    """What the conversations saw."""

    turns: int = 0
    finished: int = 0
    rejected: int = 0
    ticks: int = 0
    shown: int = 0
    gaps: list[float] = field(default_factory=list)


async def talk(pool: ServerPool, avatar: Avatar, body: Body, scene: Scene, delay: float, end: float) -> None:
    """One conversation: a turn, as long a pause, until ``end``."""
    loop = asyncio.get_running_loop()
    playout = Playout(len(body), FPS)

    def on_event(event: Event) -> None:
        if isinstance(event, Frame):
            playout.on_frame(event)
        scene.finished += isinstance(event, TurnFinished)
        scene.rejected += isinstance(event, TurnRejected)

    stream = pool.open(avatar, body_sha256=body.sha256, on_event=on_event)
    pcm = np.random.default_rng(1).integers(-9000, 9000, int(TURN_S * 16000), np.int16)
    try:
        await asyncio.sleep(delay)
        for turn in itertools.count(1):
            if loop.time() + TURN_S > end:
                break
            scene.turns += 1
            ahead = stream.start_delay.ticks
            stream.start_turn(turn, turn)
            anchor = playout.begin_turn(turn, turn, ahead)
            stream.anchor(anchor.sample, anchor.loop_index)
            stream.push_audio(pcm)
            stream.end_turn()
            playout.end_turn(len(pcm))
            start, last = loop.time(), -1
            ticks = int(TURN_S * 25)
            for k in range(-ahead, ticks + 5):
                await asyncio.sleep(max(0.0, start + (k + ahead) / 25 - loop.time()))
                heard = 0 <= k < ticks
                picture = playout.tick(frame_start(k, FPS) if heard else None)
                stream.playhead(frame_start(k, FPS) if k >= 0 else -frame_start(-k, FPS))
                if heard:
                    scene.ticks += 1
                    if picture.frame is not None and not picture.hold:
                        scene.shown += 1
                        scene.gaps.append((k - last - 1) / 25)
                        last = k
            scene.gaps.append((ticks - 1 - last) / 25)
            await asyncio.sleep(TURN_S)
    finally:
        await stream.close()


async def nothing(fleet: Fleet) -> None:
    """All goes well."""


async def killed(fleet: Fleet) -> None:
    """SIGKILL, and another in its place."""
    await fleet.end("127.0.0.11", signal.SIGKILL)
    await fleet.start("127.0.0.11")


async def drained(fleet: Fleet) -> None:
    """SIGTERM, and another in its place."""
    await fleet.end("127.0.0.11", signal.SIGTERM)
    await fleet.start("127.0.0.11")


async def frozen(fleet: Fleet) -> None:
    """SIGSTOP for five seconds."""
    fleet.processes["127.0.0.11"].send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(5)
    finally:
        fleet.processes["127.0.0.11"].send_signal(signal.SIGCONT)


async def unlisted(fleet: Fleet) -> None:
    """The name loses an address, and has it again."""
    fleet.listed.discard("127.0.0.11")
    await asyncio.sleep(6)
    fleet.listed.add("127.0.0.11")


async def rolling(fleet: Fleet) -> None:
    """Every server by SIGTERM, one after the other."""
    for host in sorted(fleet.processes):
        await fleet.end(host, signal.SIGTERM)
        await fleet.start(host)
        await asyncio.sleep(1)


SCENES: list[tuple[str, Callable[[Fleet], Awaitable[None]]]] = [
    ("nothing", nothing),
    ("`kill -9` of one", killed),
    ("SIGTERM of one", drained),
    ("SIGSTOP of one, 5 s", frozen),
    ("one address leaves DNS, comes back", unlisted),
    ("rolling restart of all", rolling),
]


async def play(fleet: Fleet, calls: int, what: Callable[[Fleet], Awaitable[None]]) -> tuple[Scene, str]:
    """One scene; returns what was seen and the sessions by server at its end."""
    loop = asyncio.get_running_loop()
    image = bytes(
        cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8))[1]
    )
    scene = Scene()
    async with ServerPool("dns:///inference:50051") as pool:
        source = AvatarSource(image, width=SIZE, height=SIZE, fps=FPS)
        avatar = await pool.prepare(source, timeout_s=READY_S)
        body = await pool.fetch_body(avatar, BodyCache(fleet.directory / "bodies"))
        for host in fleet.listed:
            await pool.prepare_on(pool._clients[f"{host}:{fleet.port}"], avatar)
        begin = loop.time()
        failing = asyncio.ensure_future(_after(AFTER_S, what, fleet))
        length = SCENE_S + (4 * AFTER_S if what is rolling else 0)
        ends = begin + length
        talks = [
            asyncio.create_task(talk(pool, avatar, body, scene, 2 * TURN_S * i / calls, ends))
            for i in range(calls)
        ]
        await asyncio.sleep(length - 2 * TURN_S)
        loads = [s.streams for _, s in sorted(pool.placement.servers.items())]
        await asyncio.gather(*talks)
        await failing
    return scene, "/".join(map(str, loads))


async def _after(seconds: float, what: Callable[[Fleet], Awaitable[None]], fleet: Fleet) -> None:
    await asyncio.sleep(seconds)
    await what(fleet)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--servers", type=int, default=4)
    parser.add_argument("--calls", type=int, default=10)
    options = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="visavis-bench-", ignore_cleanup_errors=True) as name:
        fleet = Fleet(Path(name), port)
        setattr(visavis.pool, "resolve", fleet.resolve)  # noqa: B010
        try:
            for i in range(options.servers):
                await fleet.start(f"127.0.0.{11 + i}")
            print("| failure | turns, finished | lips shown | longest without lips | streams by server |")
            print("|---|---|---|---|---|")
            for label, what in SCENES:
                scene, loads = await play(fleet, options.calls, what)
                print(
                    f"| {label} | {scene.turns}, {scene.finished} | {100 * scene.shown / scene.ticks:.1f} % "
                    f"| {max(scene.gaps) * 1e3:.0f} ms | {loads} |",
                    flush=True,
                )
        finally:
            for process in fleet.processes.values():
                with contextlib.suppress(ProcessLookupError):
                    process.send_signal(signal.SIGKILL)
                await process.wait()


if __name__ == "__main__":
    asyncio.run(main())
