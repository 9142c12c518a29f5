"""The inference server under load, with the mock engine: hop latency, CPU and bytes per frame.

``python -m bench.server`` plays turns in real time on many streams, 512x512 at 25 fps, every client's tick at
the same moment (the worst case) or staggered. One 40 ms chunk of audio makes one frame ready (no look-ahead),
so the hop is: PCM leaves the client, frame arrives there; queueing, the engine process, shared memory and both
gRPC directions included. Whole RGB24 frames are the reference of the same run,
and a process that only sleeps says how much of the lateness is the machine's. Prints one JSON line a case.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np

from tests.support.credentials import SignedStub
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.avatar_pb2_grpc import AvatarServiceStub

FRAME = 640
TICK_S = 0.04
START_S = 60.0


@dataclass
class Server:
    """A server process of our own and its engine process."""

    pid: int
    address: str = ""
    """Of gRPC."""
    http: str = ""
    engine_pid: int = 0


@contextlib.asynccontextmanager
async def serve(
    engine_settings: dict[str, str], *, engine: str = "mock", slots: int = 1000, core: int | None = None
) -> AsyncIterator[Server]:
    """A server on free ports; ``core`` is the one that it and its engine process are bound to."""
    with tempfile.TemporaryDirectory(prefix="visavis-bench-") as folder:
        settings = {
            "host": "127.0.0.1",
            "port": 0,
            "http_host": "127.0.0.1",
            "http_port": 0,
            "engine": engine,
            "engine_settings": json.dumps(engine_settings),
            "slots": slots,
            "cache_dir": folder,
        }
        env = os.environ | {f"VISAVIS_INFERENCE_{k.upper()}": str(v) for k, v in settings.items()}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "inference_server"), env=env, stderr=asyncio.subprocess.PIPE
        )
        if core is not None:  # inherited by the threads and processes that it has still to start
            os.sched_setaffinity(process.pid, {core})
        server = Server(process.pid)
        ready = asyncio.Event()

        async def follow() -> None:
            assert process.stderr is not None
            async for text in process.stderr:
                try:
                    line = json.loads(text)
                except ValueError:
                    sys.stderr.buffer.write(text)
                    continue
                if line["event"] == "listening":
                    server.address = f"127.0.0.1:{line['grpc_port']}"
                    server.http = f"127.0.0.1:{line['http_port']}"
                elif line["event"] == "engine_started":
                    server.engine_pid = line["engine_pid"]
                elif line["event"] == "engine_ready":
                    ready.set()

        follower = asyncio.create_task(follow())
        try:
            await asyncio.wait_for(ready.wait(), START_S)
            yield server
        finally:
            process.terminate()
            await process.wait()
            await follower


@dataclass
class Figures:
    """What one stream saw. Times in milliseconds."""

    hops: list[float]
    first: float
    nbytes: int
    late: int


def cpu_s(pid: int) -> float:
    """Processor seconds a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def stream(
    stub: Any, avatar_id: str, begin: float, frames: int, opening: dict[str, Any], pcm: bytes
) -> Figures:
    """One turn in real time; ``begin`` is its first tick on the monotonic clock."""
    call = stub.Converse()
    await call.write(pb.ConverseRequest(open=pb.Open(avatar_id=avatar_id, **opening)))
    await call.read()
    sent: dict[int, float] = {}
    figures = Figures([], 0.0, 0, 0)

    async def talk() -> None:
        await call.write(pb.ConverseRequest(turn_start=pb.TurnStart(turn_id=1)))
        await call.write(pb.ConverseRequest(anchor=pb.Anchor(turn_id=1)))
        for k in range(frames):
            await asyncio.sleep(max(0.0, begin + k * TICK_S - time.monotonic()))
            sent[k * FRAME] = time.monotonic()
            audio = pb.Audio(turn_id=1, first_sample=k * FRAME, pcm=pcm)
            await call.write(pb.ConverseRequest(audio=audio))
            head = pb.Playhead(turn_id=1, audio_sample=(k - 3) * FRAME, playing=True)
            await call.write(pb.ConverseRequest(playhead=head))
        await call.write(pb.ConverseRequest(end_of_turn=pb.EndOfTurn(turn_id=1)))
        head = pb.Playhead(turn_id=1, audio_sample=(frames - 1) * FRAME, playing=True)
        await call.write(pb.ConverseRequest(playhead=head))

    talker = asyncio.create_task(talk())
    while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        now = time.monotonic()
        if response.HasField("frame"):
            frame = response.frame
            figures.nbytes += len(frame.pixels)
            if frame.audio_sample in sent:
                figures.hops.append((now - sent[frame.audio_sample]) * 1000)
        elif response.HasField("turn_finished"):
            figures.late = response.turn_finished.late
            break
    await talker
    call.cancel()
    figures.first = figures.hops[0]
    return figures


async def case(
    name: str, streams: int, seconds: float, engine: dict[str, str], opening: dict[str, Any], stagger: bool
) -> dict[str, Any]:
    """Run one load and return its figures."""
    noise = np.random.default_rng(0)
    image = cv2.imencode(".png", noise.integers(0, 256, (96, 96, 3), np.uint8))[1].tobytes()
    pcm = noise.integers(-9000, 9000, FRAME, np.int16).tobytes()
    async with serve({"look_ahead_ms": "0", **engine}) as server:
        options = [("grpc.max_receive_message_length", -1)]
        async with grpc.aio.insecure_channel(server.address, options=options) as channel:
            stub: Any = SignedStub(AvatarServiceStub(channel))
            avatar_id = ""
            async for step in stub.PrepareAvatar(pb.PrepareAvatarRequest(image=image, width=512, height=512)):
                avatar_id = step.avatar.avatar_id
            frames = int(seconds / TICK_S)
            begin = time.monotonic() + 0.5
            before = cpu_s(server.pid), cpu_s(server.engine_pid)
            offset = TICK_S / streams if stagger else 0.0
            done = await asyncio.gather(
                *(stream(stub, avatar_id, begin + k * offset, frames, opening, pcm) for k in range(streams))
            )
            used = cpu_s(server.pid) - before[0], cpu_s(server.engine_pid) - before[1]
    hops = np.array([hop for figures in done for hop in figures.hops])
    count = frames * streams
    return {
        "case": name,
        "streams": streams,
        "ticks": "staggered" if stagger else "aligned",
        "frames": count,
        "received": len(hops),
        "late": sum(figures.late for figures in done),
        "hop_ms": {f"p{p}": round(float(np.percentile(hops, p)), 2) for p in (50, 95, 99)}
        | {"max": round(float(hops.max()), 2)},
        "first_frame_ms_median": round(float(np.median([figures.first for figures in done])), 2),
        "front_cpu_ms_per_frame": round(used[0] * 1000 / count, 3),
        "engine_cpu_ms_per_frame": round(used[1] * 1000 / count, 3),
        "bytes_per_stream_second": round(sum(figures.nbytes for figures in done) / streams / seconds),
    }


def sleeper(seconds: float, answer: Any) -> None:
    """How late this machine wakes a process that does nothing: the floor of every hop."""
    late = []
    due = time.monotonic()
    for _ in range(int(seconds / 0.01)):
        due += 0.01
        time.sleep(max(0.0, due - time.monotonic()))
        late.append((time.monotonic() - due) * 1000)
    answer.put({f"p{p}": round(float(np.percentile(late, p)), 2) for p in (50, 95, 99)})


async def run(options: argparse.Namespace) -> None:
    """All cases, one after the other."""
    engine = dict(pair.split("=", 1) for pair in options.engine.split(",") if pair)
    cases: list[tuple[str, int, dict[str, Any], bool]] = [
        (f"i420 rectangle, {n}", n, {}, False) for n in options.streams
    ]
    cases.append((f"i420 rectangle, {options.streams[-1]}", options.streams[-1], {}, True))
    whole = {"scope": pb.FRAME_SCOPE_WHOLE, "pixel_format": pb.PIXEL_FORMAT_RGB24}
    cases.append(("rgb24 whole (reference), 8", min(8, options.streams[-1]), whole, False))
    for name, streams, opening, stagger in cases:
        spawn = multiprocessing.get_context("spawn")
        answer = spawn.Queue()
        floor = spawn.Process(target=sleeper, args=(options.seconds, answer))
        floor.start()
        figures = await case(name, streams, options.seconds, engine, opening, stagger)
        figures["sleeper_late_ms"] = await asyncio.to_thread(answer.get)
        floor.join()
        print(json.dumps(figures), flush=True)


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=lambda t: [int(n) for n in t.split(",")], default=[1, 8, 32])
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--engine", default="", help="mock engine settings, name=value,name=value")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
