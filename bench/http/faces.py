"""Milliseconds a 512x512 frame needs through each face of the inference server: gRPC, ``/v1/converse``, RoomKit's.

``python -m bench.http.faces`` plays turns in real time (25 fps, mock engine without look-ahead, ticks staggered):
40 ms of PCM leaves the client, its frame arrives there. gRPC and ``/v1`` carry the mouth's rectangle in I420,
RoomKit's protocol whole RGB24 pictures. References of the same run: a bare ``websockets`` echo that answers 40 ms
of PCM with one RGB24 picture, without and with permessage-deflate (a gradient, which deflates easily). One JSON
line a case.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import multiprocessing
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import cv2
import grpc
import httpx
import numpy as np
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve as serve_websocket

from bench.server import FRAME, START_S, TICK_S, Server, cpu_s, serve
from tests.support.credentials import SignedStub, local_headers
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.avatar_pb2_grpc import AvatarServiceStub
from visavis.client.http_wire import AUDIO
from visavis.client.http_wire import FRAME as FRAME_HEAD

SIDE = 512


@dataclass
class Seen:
    """What one stream measured."""

    hops: list[float] = field(default_factory=list)
    nbytes: int = 0
    sent: dict[int, float] = field(default_factory=dict)

    def frame(self, sample: int, nbytes: int) -> None:
        """A frame has come."""
        self.nbytes += nbytes
        if sample in self.sent:
            self.hops.append((time.perf_counter() - self.sent.pop(sample)) * 1000)


Stream = Callable[[int, float, int, Seen], Awaitable[None]]
"""Plays one turn: number of the stream, first tick, frames."""


async def tick(begin: float, k: int) -> None:
    """Wait for the k-th tick."""
    await asyncio.sleep(max(0.0, begin + k * TICK_S - time.perf_counter()))


def over_grpc(stub: Any, avatar_id: str, pcm: bytes) -> Stream:
    """The contract."""

    async def play(number: int, begin: float, frames: int, seen: Seen) -> None:
        call = stub.Converse()
        await call.write(pb.ConverseRequest(open=pb.Open(avatar_id=avatar_id)))
        await call.read()

        async def talk() -> None:
            await call.write(pb.ConverseRequest(turn_start=pb.TurnStart(turn_id=1)))
            await call.write(pb.ConverseRequest(anchor=pb.Anchor(turn_id=1)))
            for k in range(frames):
                await tick(begin, k)
                seen.sent[k * FRAME] = time.perf_counter()
                audio = pb.Audio(turn_id=1, first_sample=k * FRAME, pcm=pcm)
                await call.write(pb.ConverseRequest(audio=audio))
                head = pb.Playhead(turn_id=1, audio_sample=(k - 3) * FRAME, playing=True)
                await call.write(pb.ConverseRequest(playhead=head))
            await call.write(pb.ConverseRequest(end_of_turn=pb.EndOfTurn(turn_id=1)))

        talker = asyncio.create_task(talk())
        while (response := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            if response.HasField("frame"):
                seen.frame(response.frame.audio_sample, len(response.frame.pixels))
            elif response.HasField("turn_finished"):
                break
        await talker
        call.cancel()

    return play


def over_socket(server: Server, avatar_id: str, pcm: bytes) -> Stream:
    """``/v1/converse``."""

    async def play(number: int, begin: float, frames: int, seen: Seen) -> None:
        url = f"ws://{server.http}/v1/converse"
        async with connect(
            url,
            compression=None,
            max_size=None,
            open_timeout=START_S,
            additional_headers=local_headers(),
        ) as ws:

            async def say(kind: str, **fields: Any) -> None:
                await ws.send(json.dumps({"type": kind, **fields}))

            turn = {"turn_id": 1, "epoch": 0}
            await say("open", avatar_id=avatar_id)
            await ws.recv()

            async def talk() -> None:
                await say("turn_start", **turn)
                await say("anchor", **turn, audio_sample=0, loop_index=0)
                for k in range(frames):
                    await tick(begin, k)
                    seen.sent[k * FRAME] = time.perf_counter()
                    await ws.send(AUDIO.pack(1, 0, 0, 0, 1, k * FRAME) + pcm)
                    await say("playhead", **turn, audio_sample=(k - 3) * FRAME, playing=True)
                await say("end_of_turn", **turn)

            talker = asyncio.create_task(talk())
            async for message in ws:
                if isinstance(message, bytes):
                    seen.frame(FRAME_HEAD.unpack_from(message)[5], len(message))
                elif '"turn_finished"' in message:
                    break
            await talker

    return play


def over_stock(server: Server, pcm: bytes) -> Stream:
    """RoomKit's protocol, in lockstep as its client is."""

    async def play(number: int, begin: float, frames: int, seen: Seen) -> None:
        await lockstep(
            f"ws://{server.http}/ws/stream", pcm, begin, frames, seen, additional_headers=local_headers()
        )

    return play


async def lockstep(url: str, pcm: bytes, begin: float, frames: int, seen: Seen, **options: Any) -> None:
    """Audio, its frames, an empty message; and again."""
    options = {"compression": None, "open_timeout": START_S} | options
    async with connect(url, max_size=None, **options) as ws:
        for k in range(frames):
            await tick(begin, k)
            seen.sent[k * FRAME] = time.perf_counter()
            await ws.send(pcm)
            while message := await ws.recv():
                seen.frame(k * FRAME, len(message))


def echo(ports: Any, compression: str | None) -> None:
    """A process that answers every message with one RGB24 picture and an empty message."""
    ramp = np.add.outer(np.arange(SIDE), np.arange(SIDE * 3)).astype(np.uint8)
    picture = SIDE.to_bytes(2, "big") * 2 + ramp.tobytes()

    async def answer(ws: Any) -> None:
        async for _ in ws:
            await ws.send(picture)
            await ws.send(b"")

    async def run() -> None:
        async with serve_websocket(answer, "127.0.0.1", 0, compression=compression) as server:
            ports.put(next(iter(server.sockets)).getsockname()[1])
            await asyncio.Event().wait()

    asyncio.run(run())


async def reference(compression: str | None, seconds: float, streams: int, pcm: bytes) -> dict[str, Any]:
    """The bare echo."""
    spawn = multiprocessing.get_context("spawn")
    ports = spawn.Queue()
    process = spawn.Process(target=echo, args=(ports, compression), daemon=True)
    process.start()
    try:
        url = f"ws://127.0.0.1:{await asyncio.to_thread(ports.get)}"

        async def play(number: int, begin: float, frames: int, seen: Seen) -> None:
            await lockstep(url, pcm, begin, frames, seen, compression=compression)

        name = "reference: bare echo of RGB24, " + ("deflate" if compression else "no deflate")
        return await case(name, process.pid or 0, play, streams, seconds)
    finally:
        process.kill()
        process.join()


async def case(name: str, pid: int, play: Stream, streams: int, seconds: float) -> dict[str, Any]:
    """One load and its figures."""
    frames = int(seconds / TICK_S)
    all_seen = [Seen() for _ in range(streams)]
    before, mine = cpu_s(pid), time.process_time()
    begin = time.perf_counter() + 1.0
    offsets = [begin + k * TICK_S / streams for k in range(streams)]
    await asyncio.gather(*(play(k, offsets[k], frames, all_seen[k]) for k in range(streams)))
    hops = np.array([hop for seen in all_seen for hop in seen.hops])
    return {
        "face": name,
        "streams": streams,
        "frames": frames * streams,
        "received": len(hops),
        "ms_per_frame": {f"p{p}": round(float(np.percentile(hops, p)), 2) for p in (50, 99)},
        "bytes_per_stream_second": round(sum(s.nbytes for s in all_seen) / streams / seconds),
        "client_cpu_ms_per_frame": round((time.process_time() - mine) * 1000 / frames / streams, 3),
        "server_cpu_ms_per_frame": round((cpu_s(pid) - before) * 1000 / frames / streams, 3),
    }


async def run(options: argparse.Namespace) -> None:
    """All faces, one after the other."""
    noise = np.random.default_rng(0)
    image = cv2.imencode(".png", noise.integers(0, 256, (96, 96, 3), np.uint8))[1].tobytes()
    pcm = noise.integers(-9000, 9000, FRAME, np.int16).tobytes()
    async with (
        serve({"look_ahead_ms": "0"}, slots=100) as server,
        httpx.AsyncClient(timeout=START_S, headers=local_headers()) as http,
    ):
        channel = grpc.aio.insecure_channel(server.address, options=[("grpc.max_receive_message_length", -1)])
        answer = await http.post(f"http://{server.http}/v1/avatars", content=image)
        avatar_id = answer.raise_for_status().json()["avatar_id"]
        start = {
            "reference_image": base64.b64encode(image).decode(),
            "width": SIDE,
            "height": SIDE,
            "fps": 25,
        }
        (await http.post(f"http://{server.http}/start", json=start)).raise_for_status()
        async with channel:
            faces = {
                "gRPC": over_grpc(SignedStub(AvatarServiceStub(channel)), avatar_id, pcm),
                "/v1/converse": over_socket(server, avatar_id, pcm),
                "RoomKit's /ws/stream": over_stock(server, pcm),
            }
            for streams in options.streams:
                for name, play in faces.items():
                    print(
                        json.dumps(await case(name, server.pid, play, streams, options.seconds)), flush=True
                    )
    for streams, compression in ((1, None), (options.streams[-1], None), (1, "deflate")):
        print(json.dumps(await reference(compression, options.seconds, streams, pcm)), flush=True)


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=lambda t: [int(n) for n in t.split(",")], default=[1, 8])
    parser.add_argument("--seconds", type=float, default=10.0)
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
