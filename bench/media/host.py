"""The media host of ``bench.media`` in a process of its own: its calls, and what it measures."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import resource
import time
from dataclasses import dataclass
from fractions import Fraction
from multiprocessing.connection import Connection

import numpy as np
import uvloop
from numpy.typing import NDArray

from orchestrator.avatar.call_avatar import NoAvatar
from orchestrator.media.clock import Lateness
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import MediaSession
from orchestrator.media.sources import StillBody
from orchestrator.worker.host import HostSettings, MediaHost
from orchestrator.worker.worker import tune_process
from visavis.client.start_delay import StartDelay
from visavis.frames import Frame, Rect
from visavis.playout.idle import idle_path
from visavis.playout.playout import Picture, Playout
from visavis.playout.speaker import Speaker

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
        playout = Playout(length, fps, jumps=body.jumps, choose_jump=idle_path(length, body.segments, name))
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
