"""Many speaking streams on one core over gRPC: how many frames are late against their playout.

``python -m bench.speaking [--streams 40] [--seconds 600] [--engine portrait] [--core 0]`` binds an inference
server and its engine process to one core and a client process to the others. Every stream speaks without a
pause, sentence after sentence in a natural voice, 512x512 at 25 fps, through the client library that a media
worker uses (stream, failover, playout); ticks are spread over eight slots of a frame as the media clock does.
Prints one JSON line. ``late`` counts ticks of a turn whose picture was not there when it was due.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from bench.server import cpu_s, serve
from orchestrator.speech.hibari import HibariVoice
from orchestrator.worker.worker import tune_process
from visavis import portraits
from visavis.client.body_cache import BodyCache
from visavis.client.messages import Event
from visavis.client.model import AvatarSource
from visavis.client.pool import ServerPool
from visavis.client.stream import AvatarStream
from visavis.frames import SAMPLE_RATE, Frame, frame_at, frame_start
from visavis.playout.playout import Playout

FPS = Fraction(25)
SLOTS = 8
SIZE = 512
PREPARE_S = 60.0
SENTENCES = (
    "Hello, I am the face of this call. You hear my voice, and my lips follow every word that I say.",
    "Please tell me what you would like to know, and I will do my best to find it for you.",
    "The weather tomorrow will be mild, with a few clouds in the morning and sunshine after lunch.",
    "Your parcel left the warehouse yesterday evening and should be with you before four o'clock.",
)
PCM = NDArray[np.int16]


@dataclass
class Voice:
    """One stream that always speaks; ``tick`` once a frame."""

    playout: Playout
    sentences: Sequence[PCM]
    share: float  # of the first sentence that is spoken
    stream: AvatarStream | None = None
    turns: int = 0
    pixels: int = 0
    late_at_start: int = 0  # of the late ticks, those of a turn's first quarter second
    margins: list[float] = field(default_factory=list)  # seconds from a frame's arrival to its tick, sampled
    _sound: PCM = field(default_factory=lambda: np.zeros(0, np.int16))
    _at: int = 0  # the frame of the turn that is due next; negative: it is still to start
    _due: float = 0.0

    def on_event(self, event: Event) -> None:
        """What the stream says."""
        if isinstance(event, Frame):
            self.pixels += len(event.pixels or b"")
            self.playout.on_frame(event)
            if frame_at(event.sample, FPS) % 16 == 0:
                due = self._due + (frame_at(event.sample, FPS) - self._at + 1) / float(FPS)
                self.margins.append(due - time.monotonic())

    def tick(self, due: float) -> None:
        """The picture of this tick."""
        assert self.stream is not None
        self._due = due
        if self.playout.turn_id is None:
            self._begin(self.stream)
        sample = frame_start(self._at, FPS)
        over = sample >= len(self._sound)
        if over and sample < len(self._sound) + frame_start(1, FPS):
            self.playout.end_turn(len(self._sound))
        late = self.playout.stats.late
        self.playout.tick(sample if self._at >= 0 and not over else None)
        if self._at < FPS / 4:
            self.late_at_start += self.playout.stats.late - late
        self.stream.playhead(sample)
        self._at += 1

    def _begin(self, stream: AvatarStream) -> None:
        self._sound = self.sentences[self.turns % len(self.sentences)]
        if not self.turns:  # streams that begin together do not go on together
            self._sound = self._sound[: round(len(self._sound) * (0.1 + 0.9 * self.share))]
        self.turns += 1
        ahead = stream.start_delay.ticks
        stream.start_turn(self.turns, 1)
        anchor = self.playout.begin_turn(self.turns, 1, ahead)
        stream.anchor(anchor.sample, anchor.loop_index)
        for at in range(0, len(self._sound), SAMPLE_RATE // 5):  # as the TTS hands it over, all at once
            stream.push_audio(self._sound[at : at + SAMPLE_RATE // 5])
        stream.end_turn()
        self._at = -ahead


async def speech() -> list[PCM]:
    """The sentences at 16 kHz."""
    voice, out = HibariVoice(), []
    for text in SENTENCES:
        sound = np.concatenate([chunk async for chunk in voice.stream(text, "en")])
        out.append(soxr.resample(sound, voice.sample_rate, SAMPLE_RATE))
    return out


def run_clients(pipe: Connection, address: str, streams: int, seconds: float, server_core: int) -> None:
    """The client process."""
    os.sched_setaffinity(0, (os.sched_getaffinity(0) - {server_core}) or {server_core})
    tune_process()
    pipe.send(asyncio.run(_clients(address, streams, seconds, pipe)))


async def _clients(address: str, streams: int, seconds: float, pipe: Connection) -> dict[str, Any]:
    sentences = await speech()
    with tempfile.TemporaryDirectory(prefix="visavis-bench-", ignore_cleanup_errors=True) as folder:
        async with ServerPool([address]) as pool:
            source = AvatarSource(portraits.DEFAULT.read_bytes(), SIZE, SIZE, FPS)
            avatar = await pool.prepare(source, timeout_s=PREPARE_S)
            body = await pool.fetch_body(avatar, BodyCache(Path(folder)))
            voices = []
            for number in range(streams):
                turned = sentences[number % len(sentences) :] + sentences[: number % len(sentences)]
                voice = Voice(Playout(len(body), FPS, loop_index=number * 7), turned, number / streams)
                voice.stream = pool.open(
                    avatar,
                    source=source,
                    session_id=f"bench-{number}",
                    body_sha256=body.sha256,
                    on_event=voice.on_event,
                )
                voices.append(voice)
            while not all(voice.stream and voice.stream.connected for voice in voices):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            gc.collect()
            gc.freeze()
            warm = round(8 * FPS)
            await play(voices, warm)
            before, before_each = total(voices), [voice.playout.stats.late for voice in voices]
            cpu = time.process_time()
            pipe.send("begin")
            lateness, longest = await play(voices, round(seconds * FPS))
            cpu = time.process_time() - cpu
            figures = total(voices)
            for voice in voices:
                if voice.stream is not None:
                    await voice.stream.close()
    for name in before:
        figures[name] -= before[name]
    due = figures["shown"] + figures["late"]
    margins = np.array([margin for voice in voices for margin in voice.margins]) * 1000
    return {
        "streams": streams,
        "seconds": seconds,
        "due": due,
        **figures,
        "late_percent": round(100 * figures["late"] / max(due, 1), 4),
        "streams_with_late": sum(
            voice.playout.stats.late > late for voice, late in zip(voices, before_each, strict=True)
        ),
        "late_at_the_common_start": before["late"],
        "ahead_ms": {f"p{p}": round(float(np.percentile(margins, p)), 1) for p in (0.1, 1, 5, 50)},
        "client_cpu_ms_per_frame": round(cpu * 1000 / max(due, 1), 3),
        "client_tick_late_ms": {f"p{p}": round(float(np.percentile(lateness, p)), 1) for p in (50, 99, 99.9)},
        "client_longest_pause_ms": round(longest, 1),
    }


def total(voices: Sequence[Voice]) -> Counter[str]:
    """Counters of all streams."""
    out: Counter[str] = Counter(shown=0, late=0, late_at_start=0, dropped=0, misplaced=0, turns=0)
    for voice in voices:
        stats = voice.playout.stats
        out.update(
            shown=stats.shown,
            late=stats.late,
            late_at_start=voice.late_at_start,
            dropped=stats.dropped,
            misplaced=stats.misplaced,
            turns=voice.turns,
        )
    return out


async def play(voices: Sequence[Voice], ticks: int) -> tuple[NDArray[np.float64], float]:
    """Tick every stream; returns how late slots were run and the longest of them, in ms."""
    begin, late = time.monotonic() + 0.05, []
    slot = float(1 / FPS) / SLOTS
    for number in range(ticks * SLOTS):
        due = begin + number * slot
        pause = due - time.monotonic()
        if pause > 0:
            await asyncio.sleep(pause)
        elif number % SLOTS == 0:
            await asyncio.sleep(0)
        late.append((time.monotonic() - due) * 1000)
        for voice in voices[number % SLOTS :: SLOTS]:
            voice.tick(due)
    return np.array(late), max(late)


async def run(options: argparse.Namespace) -> None:
    """One load."""
    settings = dict(pair.split("=", 1) for pair in options.settings.split(",") if pair)
    async with serve(settings, engine=options.engine, core=options.core) as server:
        spawn = multiprocessing.get_context("spawn")
        ours, theirs = spawn.Pipe()
        arguments = (theirs, server.address, options.streams, options.seconds, options.core)
        client = spawn.Process(target=run_clients, args=arguments)
        client.start()
        await asyncio.to_thread(ours.recv)
        before = cpu_s(server.pid), cpu_s(server.engine_pid)
        figures = await asyncio.to_thread(ours.recv)
        used = cpu_s(server.pid) - before[0], cpu_s(server.engine_pid) - before[1]
        client.join()
    figures |= {
        "engine": options.engine,
        "front_cpu_ms_per_frame": round(used[0] * 1000 / max(figures["due"], 1), 3),
        "engine_cpu_ms_per_frame": round(used[1] * 1000 / max(figures["due"], 1), 3),
        "server_cores": round(sum(used) / options.seconds, 3),
        "load_average": os.getloadavg()[0],
        "memory_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    print(json.dumps(figures), flush=True)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--engine", default="portrait")
    parser.add_argument("--settings", default="", help="engine settings, name=value,name=value")
    parser.add_argument("--core", type=int, default=0, help="the core of the server and its engine process")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
