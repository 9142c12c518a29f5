"""What ``bench.engine`` measures of our engine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference_server.engines.base import BodyLoop, Handle, Prepared, Progress, Row, Ticket, Track
from inference_server.engines.musetalk import MuseTalkEngine, face
from visavis.frames import SAMPLE_RATE, frame_start

FPS = Fraction(25)
GFLOP = {"sd-vae": 800.0, "taesd": 213.0}  # of a frame at full size; other sizes have no roofline here


def body_720p(frames: int = 4, width: int = 1280, height: int = 720) -> BodyLoop:
    """A made-up body with a face of 260 x 330 pixels."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 226, (height * 3 // 32, width // 16)).astype(np.uint8)
    large = cv2.resize(coarse, (width, height * 3 // 2), interpolation=cv2.INTER_LINEAR)
    smooth = np.asarray(large, np.uint8)
    mesh = np.full((468, 2), (width / 2, height * 0.45), np.float32)
    angle = np.linspace(0, 2 * np.pi, len(face.OVAL), endpoint=False) - np.pi / 2
    mesh[list(face.OVAL)] += np.stack([130 * np.cos(angle), 165 * np.sin(angle)], 1).astype(np.float32)
    marks = np.stack([mesh + np.float32(i) for i in range(frames)])
    pictures = np.stack([np.roll(smooth, 2 * i, axis=1) for i in range(frames)])
    still = np.zeros((height, width, 3), np.uint8)
    motion = np.zeros((frames, 2, 3), np.float32)
    return BodyLoop("bench", width, height, FPS, pictures, marks, motion, still, (), b"")


def voice(seconds: float, seed: int = 0) -> NDArray[np.int16]:
    """Never silent."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(int(seconds * SAMPLE_RATE)) * 3000).astype(np.int16)


@dataclass(frozen=True)
class Loaded:
    """An engine with one avatar. ``seconds``: until it was ready. ``steps``: milliseconds of each of the
    preparation's, between which live streams are drawn."""

    engine: MuseTalkEngine
    handle: Handle
    seconds: float
    steps: list[float]


def load(settings: dict[str, str], tell: Progress = lambda progress, sentence: None) -> Loaded:
    """Load, prepare the made-up body and attach it."""
    began = time.monotonic()
    engine = MuseTalkEngine(settings)
    engine.load(tell)
    seconds = time.monotonic() - began
    body = body_720p()
    made: float | Prepared = 0.0
    steps = []
    began = time.perf_counter()
    for step in engine.prepare(body, {}):
        steps.append((time.perf_counter() - began) * 1000)
        made, began = step, time.perf_counter()
    assert isinstance(made, Prepared)
    return Loaded(engine, engine.attach(made, body), seconds, steps)


def _rows(at: Loaded, tracks: Sequence[Track], frame: int) -> list[Row]:
    size = at.handle.rect(frame).i420_size
    return [Row(t, frame, frame, 1.0, memoryview(bytearray(size))) for t in tracks]


def _turn(at: Loaded, seconds: float, seed: int) -> Track:
    track = at.engine.track(at.handle, FPS, 0)
    track.append(voice(seconds, seed))
    track.end()
    return track


@dataclass(frozen=True)
class Cost:
    """Of one bucket, in milliseconds a batch: the whole way, and the part that the engine's thread is busy."""

    rows: int
    batch_ms: float
    host_ms: float
    d2h_bytes: int


def bucket_costs(at: Loaded, repeats: int) -> list[Cost]:
    """Batch after batch, one at a time."""
    out = []
    tracks = [_turn(at, 8.0, n) for n in range(at.engine.info.buckets[-1])]
    for size in at.engine.info.buckets:
        whole, host = [], []
        for n in range(repeats):
            rows = _rows(at, tracks[:size], 130 + n % 60)
            began = time.perf_counter()
            ticket = at.engine.submit(rows)
            host.append(time.perf_counter() - began)
            while at.engine.collect(ticket, 0.01) is None:
                pass
            whole.append(time.perf_counter() - began)
        rect = at.handle.rect(0)
        out.append(
            Cost(size, statistics.median(whole) * 1000, statistics.median(host) * 1000, size * rect.i420_size)
        )
    return out


def first_frame_ms(at: Loaded, repeats: int) -> list[float]:
    """From the audio of a turn's first frame being there to its pixels, the engine otherwise idle."""
    out = []
    pcm = voice(0.2)[: 640 + at.engine.info.look_ahead]
    for _ in range(repeats):
        track = at.engine.track(at.handle, FPS, 0)
        began = time.perf_counter()
        track.append(pcm)
        assert track.ready() == 1
        ticket = at.engine.submit(_rows(at, [track], 0))
        while at.engine.collect(ticket, 0.01) is None:
            pass
        out.append((time.perf_counter() - began) * 1000)
    return out


@dataclass(frozen=True)
class Live:
    """``late``: milliseconds after each frame's own deadline, 0 where in time."""

    streams: int
    late: NDArray[np.float64]

    @property
    def p99(self) -> float:
        """99th percentile of the lateness."""
        return float(np.percentile(self.late, 99))


def live(at: Loaded, streams: int, seconds: float, longest_ms: float) -> Live:
    """Streams with staggered starts that all speak all the time, earliest deadline first, nothing waited for.
    A frame may be drawn 400 ms before it is due, and is due at its start in its stream. No batch is longer than
    ``longest_ms``."""
    tracks = [_turn(at, min(seconds + 1.0, 120.0), n) for n in range(streams)]
    cost_ms = {b: at.engine.cost_ms(b) for b in at.engine.info.buckets}
    largest = max((b for b in at.engine.info.buckets if cost_ms[b] <= longest_ms), default=1)
    begin = time.perf_counter() + 0.1
    offsets = [begin + 0.2 + 0.04 * n / streams for n in range(streams)]
    following = [0] * streams
    last = int(seconds * FPS)
    late: list[float] = []
    waiting: list[tuple[Ticket, list[float]]] = []
    while True:
        now = time.perf_counter()
        due = sorted(
            (offsets[n] + frame_start(f, FPS) / SAMPLE_RATE, n)
            for n, f in enumerate(following)
            if f < last and now >= offsets[n] + f / 25 - 0.4
        )
        if due and len(waiting) < 2:
            chosen = due[:largest]
            rows = [_rows(at, [tracks[n]], following[n])[0] for _, n in chosen]
            for _, n in chosen:
                following[n] += 1
            waiting.append((at.engine.submit(rows), [deadline for deadline, _ in chosen]))
        if waiting:
            ticket, deadlines = waiting[0]
            if at.engine.collect(ticket, 0.001) is not None:
                waiting.pop(0)
                done = time.perf_counter()
                late += [max(0.0, done - d) * 1000 for d in deadlines]
        elif not due:
            if all(f >= last for f in following):
                return Live(streams, np.array(late))
            time.sleep(0.0005)


def matmul_tflops(device: torch.device) -> float:
    """The best half-precision matrix product of this machine now (float32 on the CPU)."""
    cuda = device.type == "cuda"
    n, kind = (8192, torch.float16) if cuda else (1024, torch.float32)
    a, b = (torch.randn(n, n, dtype=kind, device=device) for _ in range(2))
    best = 0.0
    for _ in range(10):
        if cuda:
            torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(5):
            a @ b
        if cuda:
            torch.cuda.synchronize()
        best = max(best, 5 * 2 * n**3 / (time.perf_counter() - began) / 1e12)
    return best
