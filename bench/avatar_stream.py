"""The avatar stream's client: failover, reconnection and CPU per frame, against real server processes.

``python -m bench.avatar_stream`` plays one long turn in real time through the mock engine, 512x512 at 25 fps,
kills servers under it and prints how long no lips were shown.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from visavis.client.body_cache import BodyCache
from visavis.client.messages import Connected, Event
from visavis.client.model import AvatarSource
from visavis.client.pool import ServerPool
from visavis.client.stream import AvatarStream
from visavis.frames import Frame, frame_start
from visavis.playout.playout import Playout

FPS = Fraction(25)
READY_S = 60.0


@dataclass
class Server:
    """One inference server process of our own."""

    process: asyncio.subprocess.Process
    address: str


async def serve(directory: Path, port: int = 0) -> Server:
    """Start a server with the mock engine; returns when its engine is ready."""
    settings = {
        "host": "127.0.0.1",
        "port": port,
        "http": "false",
        "engine": "mock",
        "engine_settings": json.dumps({}),
        "slots": 8,
        "cache_dir": directory,
    }
    env = os.environ | {f"VISAVIS_INFERENCE_{k.upper()}": str(v) for k, v in settings.items()}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inference_server"), env=env, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    listening = 0
    async with asyncio.timeout(READY_S):
        async for line in process.stderr:
            with contextlib.suppress(ValueError):
                entry: dict[str, Any] = json.loads(line)
                listening = int(entry.get("grpc_port", listening))
                if entry.get("event") == "engine_ready":
                    break
    asyncio.get_running_loop().create_task(_drain(process.stderr))
    return Server(process, f"127.0.0.1:{listening}")


async def stop(server: Server) -> None:
    """Kill it, unless that has been done."""
    if server.process.returncode is None:
        server.process.kill()
    await server.process.wait()


async def _drain(stream: asyncio.StreamReader) -> None:
    while await stream.read(65536):
        pass


@dataclass
class Voice:
    """Plays one endless turn in real time and notes when lips were on screen."""

    playout: Playout
    stream: AvatarStream | None = None
    shown: list[float] = field(default_factory=list)
    connected: list[float] = field(default_factory=list)
    frames: int = 0
    pixels: int = 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, Frame):
            self.frames += 1
            self.pixels += len(event.pixels or b"")
            self.playout.on_frame(event)
        elif isinstance(event, Connected):
            self.connected.append(time.perf_counter())

    async def play(self, stream: AvatarStream, seconds: float) -> None:
        """Speak for so long."""
        samples = int(seconds * 16000)
        rng = np.random.default_rng(1)
        stream.start_turn(1, 1)
        anchor = self.playout.begin_turn(1, 1, 5)
        stream.anchor(anchor.sample, anchor.loop_index)
        stream.playhead(-frame_start(5, FPS))
        stream.push_audio(rng.integers(-9000, 9000, samples, np.int16))
        start = time.perf_counter()
        for k in range(-5, int(seconds * 25)):
            await asyncio.sleep(max(0.0, start + (k + 5) / 25 - time.perf_counter()))
            sample = frame_start(k, FPS) if k >= 0 else None
            picture = self.playout.tick(sample)
            stream.playhead(sample if sample is not None else -frame_start(-k, FPS))
            if picture.frame is not None:
                self.shown.append(time.perf_counter())
        stream.interrupt(2)

    def gap_after(self, moment: float) -> float:
        """The longest time without lips from ``moment`` on, in seconds."""
        times = [moment, *[t for t in self.shown if t > moment]]
        return max(b - a for a, b in itertools.pairwise(times))


@contextlib.asynccontextmanager
async def speaking(servers: list[Server], directory: Path) -> AsyncIterator[tuple[Voice, AvatarStream]]:
    """A conversation with an avatar prepared on the first server."""
    image = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8))[
        1
    ].tobytes()
    async with ServerPool([s.address for s in servers]) as pool:
        source = AvatarSource(image, fps=FPS)
        avatar = await pool.prepare(source, timeout_s=READY_S)
        body = await pool.fetch_body(avatar, BodyCache(directory))
        voice = Voice(Playout(len(body), FPS))
        stream = pool.open(avatar, source=source, body_sha256=body.sha256, on_event=voice)
        try:
            while not stream.connected:  # noqa: ASYNC110 - not timed
                await asyncio.sleep(0.01)
            await asyncio.sleep(3.0)  # a second server gets its copy
            yield voice, stream
        finally:
            await stream.close()


async def steady(directory: Path, seconds: float) -> None:
    """CPU and bytes per frame of one speaking stream."""
    server = await serve(directory / "a")
    async with speaking([server], directory / "bodies") as (voice, stream):
        await voice.play(stream, 2.0)
    async with speaking([server], directory / "bodies") as (voice, stream):
        cpu = time.process_time()
        await voice.play(stream, seconds)
        cpu = time.process_time() - cpu
        stats = voice.playout.stats
        raw = 512 * 512 * 3 * 25
        print(f"client CPU per frame            {cpu / voice.frames * 1e3:7.3f} ms")
        print(f"frames shown / late / held      {stats.shown} / {stats.late} / {stats.held}")
        print(
            f"pixel bytes per speaking second {voice.pixels / seconds / 1e6:7.2f} MB (raw RGB24 {raw / 1e6:.1f})"
        )
        print(f"first frame after first audio   {stream.start_delay.p95_s * 1e3:7.1f} ms")
    await stop(server)


async def failover(directory: Path, runs: int, kind: signal.Signals) -> None:
    """A server of two is killed or frozen in mid-sentence."""
    gaps = []
    for run in range(runs):
        servers = [await serve(directory / "a"), await serve(directory / "b")]
        async with speaking(servers, directory / "bodies") as (voice, stream):
            playing = asyncio.create_task(voice.play(stream, 6.0))
            await asyncio.sleep(2.0 + 0.013 * run)
            victim = next(s for s in servers if s.address == stream.address)
            moment = time.perf_counter()
            victim.process.send_signal(kind)
            await playing
            gaps.append(voice.gap_after(moment))
        for server in servers:
            await stop(server)
    print(f"{kind.name} of one of two servers: longest time without lips {_figures(gaps)}")


async def restart(directory: Path, runs: int) -> None:
    """The only server is killed in mid-sentence and started again."""
    gaps = []
    for _ in range(runs):
        server = await serve(directory / "a")
        async with speaking([server], directory / "bodies") as (voice, stream):
            playing = asyncio.create_task(voice.play(stream, 14.0))
            await asyncio.sleep(2.0)
            server.process.kill()
            await server.process.wait()
            server = await serve(directory / "a", int(server.address.rpartition(":")[2]))
            ready = time.perf_counter()
            await playing
            gaps.append(next((t for t in voice.shown if t > ready), float("inf")) - ready)
        await stop(server)
    print(f"the only server restarted: lips after its engine was ready {_figures(gaps)}")


def _figures(seconds: list[float]) -> str:
    median, most = statistics.median(seconds) * 1e3, max(seconds) * 1e3
    return f"median {median:.0f} ms, max {most:.0f} ms ({len(seconds)} runs)"


async def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="visavis-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        await steady(directory, options.seconds)
        await failover(directory, options.runs, signal.SIGKILL)
        await failover(directory, options.runs, signal.SIGSTOP)
        await restart(directory, options.runs)


if __name__ == "__main__":
    asyncio.run(main())
