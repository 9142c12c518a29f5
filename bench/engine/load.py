"""The whole server under the load of a full GPU, on the mock engine: what the server itself adds to a frame.

    python -m bench.engine.load [--streams 64] [--seconds 20] [--busy 0.6] [--clients 2]

Real processes and gRPC, 512x512 at 25 fps, every caller's tick at the same moment, the costs of a device that can
draw 1 740 frames a second, and a thread in the engine process that holds its interpreter's lock for ``--busy`` of
the time. A frame's hop is its audio's way to the engine and its pixels' way back; what lies between (the device and
the queue before it) is shown beside it. Prints one JSON line, with how late a process that only sleeps was woken.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import multiprocessing
import time
from multiprocessing.connection import Connection
from typing import Any

import cv2
import grpc
import numpy as np

from bench.engine.stamped import STAMP
from bench.server import FRAME, TICK_S, cpu_s, serve, sleeper
from tests.support.credentials import SignedStub
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.avatar_pb2_grpc import AvatarServiceStub

SIZE = 512
HEARD = 5  # ticks between two playheads, as a caller's that says only what the server cannot know
LEAD = 3  # frames that a caller has in hand
COSTS = {"cost_ms_batch": "0.4", "cost_ms_row": "0.55", "buckets": "1+2+4+8+16", "look_ahead_ms": "0"}
Seen = list[tuple[int, float, float, float]]  # sample, in hop, device, out hop: milliseconds


async def stream(stub: Any, avatar_id: str, begin: float, frames: int, pcm: bytes) -> Seen:
    """One turn in real time; ``begin`` is its first tick on the monotonic clock."""
    call = stub.Converse()
    await call.write(pb.ConverseRequest(open=pb.Open(avatar_id=avatar_id)))
    await call.read()
    await call.write(pb.ConverseRequest(turn_start=pb.TurnStart(turn_id=1)))
    sent: dict[int, int] = {}

    async def talk() -> None:
        for k in range(frames):
            await asyncio.sleep(max(0.0, begin + k * TICK_S - time.monotonic()))
            sent[k * FRAME] = time.monotonic_ns()
            audio = pb.Audio(turn_id=1, first_sample=k * FRAME, pcm=pcm)
            await call.write(pb.ConverseRequest(audio=audio))
            if k % HEARD == 0:
                head = pb.Playhead(turn_id=1, audio_sample=(k - LEAD) * FRAME, playing=True)
                await call.write(pb.ConverseRequest(playhead=head))
        await call.write(pb.ConverseRequest(end_of_turn=pb.EndOfTurn(turn_id=1)))
        head = pb.Playhead(turn_id=1, audio_sample=frames * FRAME, playing=True)
        await call.write(pb.ConverseRequest(playhead=head))

    talker = asyncio.create_task(talk())
    seen: Seen = []
    while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
        now = time.monotonic_ns()
        if response.HasField("turn_finished"):
            break
        frame = response.frame
        at = sent.get(frame.audio_sample)
        if frame.pixels and at is not None:
            heard, done = STAMP.unpack_from(frame.pixels)
            times = ((heard - at) / 1e6, (done - heard) / 1e6, (now - done) / 1e6)
            seen.append((frame.audio_sample, *times))
    await talker
    call.cancel()
    return seen


async def callers(
    address: str, avatar_id: str, begin: float, frames: int, streams: int
) -> tuple[int, float, Seen]:
    """Some of the streams, over one channel: frames asked for, processor seconds used, what was seen."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    pcm = np.random.default_rng(0).integers(-9000, 9000, FRAME, np.int16).tobytes()
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = SignedStub(AvatarServiceStub(channel))
        gc.collect()
        gc.freeze()
        before = time.process_time()
        done = await asyncio.gather(*(stream(stub, avatar_id, begin, frames, pcm) for _ in range(streams)))
        used = time.process_time() - before
    return frames * streams, used, [one for seen in done for one in seen]


def client(pipe: Connection, *order: Any) -> None:
    """Entry of a client process."""
    pipe.send(asyncio.run(callers(*order)))


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """The load and its figures."""
    spawn = multiprocessing.get_context("spawn")
    settings = {**COSTS, "busy_fraction": str(options.busy)}
    engine = "bench.engine.stamped:StampedEngine"
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    image = cv2.imencode(".png", noise)[1].tobytes()
    frames = int(options.seconds / TICK_S)
    async with serve(settings, engine=engine) as server:
        async with grpc.aio.insecure_channel(server.address) as channel:
            stub: Any = SignedStub(AvatarServiceStub(channel))
            avatar_id = ""
            order = pb.PrepareAvatarRequest(image=image, width=SIZE, height=SIZE)
            async for step in stub.PrepareAvatar(order):
                avatar_id = step.avatar.avatar_id
        begin = time.monotonic() + 4.0  # client processes have to start
        shares = [len(range(n, options.streams, options.clients)) for n in range(options.clients)]
        pipes = []
        floor: Any = spawn.Queue()
        processes = [spawn.Process(target=sleeper, args=(options.seconds, floor))]
        for share in shares:
            ours, theirs = spawn.Pipe()
            pipes.append(ours)
            order_of = (theirs, server.address, avatar_id, begin, frames, share)
            processes.append(spawn.Process(target=client, args=order_of))
        for process in processes:
            process.start()
        await asyncio.sleep(max(0.0, begin - time.monotonic()))
        before = cpu_s(server.pid), cpu_s(server.engine_pid)
        answers = [await asyncio.to_thread(pipe.recv) for pipe in pipes]
        after = cpu_s(server.pid), cpu_s(server.engine_pid)
        used = [(b - a) / options.seconds for a, b in zip(before, after, strict=True)]
        sleeping = await asyncio.to_thread(floor.get)
        for process in processes:
            process.join()
    skip = round(1 / TICK_S) * FRAME  # the first second: sixty turns that start at once
    times = np.array([one[1:] for _, _, seen in answers for one in seen if one[0] >= skip])
    hops = times[:, 0] + times[:, 2]
    return {
        "streams": options.streams,
        "frames": sum(count for count, _, _ in answers),
        "received": sum(len(seen) for _, _, seen in answers),
        "hop_ms": _spread(hops),
        "audio_in_ms": _spread(times[:, 0]),
        "frame_out_ms": _spread(times[:, 2]),
        "device_ms": _spread(times[:, 1]),
        "front_cores": round(used[0], 2),
        "engine_cores": round(used[1], 2),
        "client_cores": round(sum(used for _, used, _ in answers) / options.seconds, 2),
        "sleeper_late_ms": sleeping,
    }


def _spread(values: Any) -> dict[str, float]:
    shares = {f"p{p}": round(float(np.percentile(values, p)), 2) for p in (50, 99, 99.9)}
    return {**shares, "max": round(float(values.max()), 2)}


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--busy", type=float, default=0.6, help="share of a core burnt in the engine process")
    parser.add_argument("--clients", type=int, default=2, help="client processes")
    print(json.dumps(asyncio.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
