"""Benches 1 and 5: CPU per video frame, and how late audio packets leave.

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
import asyncio
import gc
import math
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import uvloop
from numpy.typing import NDArray

from bench.media_reference import roomkit, run_bare
from bench.phones import run_phones
from orchestrator.avatar.call_avatar import NoAvatar
from orchestrator.avatar.speaker import Speaker
from orchestrator.media.clock import Lateness
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import MediaSession
from orchestrator.media.sources import StillBody
from orchestrator.worker.host import HostSettings, MediaHost
from orchestrator.worker.worker import tune_process
from visavis.client.start_delay import StartDelay
from visavis.frames import Frame, Rect
from visavis.playout.loop import IdleVariation
from visavis.playout.playout import Picture, Playout

FPS = 25
JUMPS = ((44, 0), (44, 77), (76, 0), (76, 45), (124, 45), (124, 77))  # as those of a portrait's loop


@dataclass(frozen=True)
class Scenario:
    """``core``: the CPU that the host is bound to, ``None`` for all."""

    name: str
    idle: int
    speaking: int
    seconds: float
    size: int = 512
    core: int | None = None


def portrait_loop(size: int, length: int = 125) -> NDArray[np.uint8]:
    """A textured picture that sways by a few pixels: ``(length, size * 3 // 2, size)`` I420."""
    rng = np.random.default_rng(5)
    margin = 8
    texture: NDArray[np.float64] = np.zeros((size + 2 * margin, size + 2 * margin))
    for cells, strength in ((5, 45.0), (17, 22.0), (60, 9.0), (240, 4.0)):
        grid = rng.normal(0, strength, (cells, cells))
        index: NDArray[np.float64] = np.linspace(0, cells - 1.001, texture.shape[0])
        low, part = index.astype(int), index % 1
        high = np.minimum(low + 1, cells - 1)
        rows = grid[low] * (1 - part)[:, None] + grid[high] * part[:, None]
        texture += rows[:, low] * (1 - part) + rows[:, high] * part
    luma = (125 + texture).clip(16, 235).astype(np.uint8)
    frames = np.full((length, size * 3 // 2, size), 128, np.uint8)
    for frame in range(length):
        turn = 2 * math.pi * frame / length
        x, y = margin + round(3 * math.sin(turn)), margin + round(2 * math.cos(turn))
        frames[frame, :size] = luma[y : y + size, x : x + size]
    return frames


class Tone:
    """A voice-like level of sound, made beforehand."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self._pcm: list[NDArray[np.int16]] = list(rng.normal(0, 3000, (50, 160)).astype(np.int16))

    def read(self, packet: int) -> NDArray[np.int16] | None:
        return self._pcm[packet % len(self._pcm)]


class Resting:
    """What an idle call of the orchestrator runs: a speaker with nothing to say and the body's playout."""

    def __init__(self, body: StillBody, name: str) -> None:
        self.body = body
        length, fps = len(body.frames), Fraction(FPS)
        playout = Playout(length, fps, jumps=body.jumps, choose_jump=IdleVariation(length, name))
        self._speaker = Speaker(
            rate=8000,
            fps=fps,
            avatar=NoAvatar(),
            playout=playout,
            start_delay=StartDelay(fps),
            emit=lambda event: None,
        )
        self.read, self.tick = self._speaker.read, self._speaker.tick


class Talking:
    """A mouth that changes with every picture, in a rectangle of the usual size."""

    def __init__(self, body: StillBody) -> None:
        self.body = body
        side = body.width * 3 // 8 // 2 * 2
        self._rect = Rect(
            body.width // 2 - side // 2 & ~1, body.height * 5 // 8 & ~1, side, side * 3 // 4 & ~1
        )
        rng = np.random.default_rng(2)
        base = rng.integers(90, 130, self._rect.i420_size).astype(np.uint8)
        self._mouths = [np.roll(base, 40 * shift).tobytes() for shift in range(12)]

    def tick(self, frame: int) -> Picture:
        index = frame % len(self.body.frames)
        mouth = Frame(1, 1, 0, index, "mouth", self._rect, self._mouths[frame % 12])
        return Picture(index, mouth)


def run_host(pipe: Connection, scenario: Scenario) -> None:
    """The host's process: told the phones' ports, tells its own, measures and reports."""
    if scenario.core is not None:
        os.sched_setaffinity(0, {scenario.core})
    tune_process()
    uvloop.run(_host(pipe, scenario))


async def _host(pipe: Connection, scenario: Scenario) -> None:
    host = MediaHost(HostSettings())
    host.start()
    body = StillBody(f"bench-{scenario.size}", portrait_loop(scenario.size), JUMPS)
    phones: list[tuple[int, int]] = pipe.recv()
    sessions: list[MediaSession] = []
    ports = []
    for number, (audio, video) in enumerate(phones):
        talks = number < scenario.speaking
        resting = Resting(body, f"call {number}")
        session = host.session(Tone() if talks else resting, Talking(body) if talks else resting)
        settings = VideoParameters(
            96, ("127.0.0.1", video), scenario.size, scenario.size, feedback=frozenset({"nack pli"})
        )
        host.warm(body, settings)
        session.update(AudioParameters("PCMU", 0, ("127.0.0.1", audio)), settings)
        sessions.append(session)
        ports.append((session.audio_port, session.video_port))
    idle = [session.video for session in sessions[scenario.speaking :] if session.video]
    while not host.idle.ready:  # noqa: ASYNC110 - another thread makes it
        await asyncio.sleep(0.05)
    pipe.send(ports)
    for session in sessions:
        session.start()
    for _ in range(200):
        await asyncio.sleep(0.05)
        if all(video.cached for video in idle):
            break
    await asyncio.sleep(1.0)
    gc.collect()
    gc.freeze()
    host.clock.recent, host.clock.total = Lateness(), Lateness()
    host.clock.video, host.clock.total_video = Lateness(), Lateness()
    before = resource.getrusage(resource.RUSAGE_SELF)
    replaced, encoded, busy = host.encoders.replaced, host.encoders.encoded, host.encoders.busy_seconds
    started = time.monotonic()
    await asyncio.sleep(scenario.seconds)
    elapsed = time.monotonic() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    frames = len(sessions) * FPS * elapsed
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    host.clock.total.merge(host.clock.recent)
    host.clock.total_video.merge(host.clock.video)
    coded = host.encoders.encoded - encoded
    figures = sessions[-1].stats(time.monotonic())
    pipe.send(
        {
            "ms_per_frame": 1000 * (user + system) / frames,
            "user": 1000 * user / frames,
            "system": 1000 * system / frames,
            "p50": host.clock.total.quantile(0.5) * 1000,
            "p99": host.clock.total.quantile(0.99) * 1000,
            "max": host.clock.total.worst * 1000,
            "replaced": host.encoders.replaced - replaced,
            "encode_ms": 1000 * (host.encoders.busy_seconds - busy) / coded if coded else 0.0,
            "coded": coded / frames,
            "heard": figures.audio.received_packets,
            "video_p99": host.clock.total_video.quantile(0.99) * 1000,
            "refused": float(host.load.overloaded),
            "cores": (user + system) / elapsed,
        }
    )
    for session in sessions:
        session.stop()
    await host.close()


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
