"""RoomKit's own ``WebSocketAvatarProvider`` against our server and against a minimal echo server, in one run.

``python -m bench.roomkit.stock_client`` in the environment of ``make test-roomkit``: each client feeds 40 ms of PCM
every 40 ms from a thread of its own and waits for its 512x512 picture, as RoomKit's worker does. The echo server
answers with one ready picture and draws nothing. One JSON line a case.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import threading
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket
from roomkit.video.avatar.websocket import WebSocketAvatarProvider
from starlette.websockets import WebSocketDisconnect

from bench.http.faces import SIDE
from bench.server import FRAME, TICK_S, cpu_s, serve
from testing.ports import free_port
from tests.support.credentials import local_token

FPS = 25


def echo(port: int) -> None:
    """A process that speaks the client's protocol and does nothing else."""
    app = FastAPI()
    frame = SIDE.to_bytes(2, "big") * 2 + bytes(SIDE * SIDE * 3)

    @app.post("/start")
    async def start() -> dict[str, int]:
        return {"fps": FPS}

    @app.post("/stop")
    async def stop() -> dict[str, int]:
        return {}

    @app.websocket("/ws/stream")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.receive_bytes()
                await websocket.send_bytes(frame)
                await websocket.send_bytes(b"")
        except WebSocketDisconnect:
            return

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", ws_per_message_deflate=False)


def play(face: WebSocketAvatarProvider, begin: float, pcm: bytes, frames: int, hops: list[float]) -> None:
    """One client's turn, in real time."""
    for k in range(frames):
        time.sleep(max(0.0, begin + k * TICK_S - time.perf_counter()))
        fed = time.perf_counter()
        if face.feed_audio(pcm, 16_000):
            hops.append((time.perf_counter() - fed) * 1000)


async def case(name: str, url: str, pid: int, streams: int, seconds: float) -> dict[str, Any]:
    """One load and its figures."""
    noise = np.random.default_rng(0)
    image = cv2.imencode(".png", noise.integers(0, 256, (96, 96, 3), np.uint8))[1].tobytes()
    pcm = noise.integers(-9000, 9000, FRAME, np.int16).tobytes()
    faces = [WebSocketAvatarProvider(base_url=url, fps=FPS) for _ in range(streams)]
    for face in faces:
        await face.start(image, width=SIDE, height=SIDE)
    frames, hops = int(seconds / TICK_S), [list[float]() for _ in faces]
    before, mine, begin = cpu_s(pid), time.process_time(), time.perf_counter() + 0.5
    threads = [
        threading.Thread(target=play, args=(face, begin + k * TICK_S / streams, pcm, frames, hops[k]))
        for k, face in enumerate(faces)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        await asyncio.to_thread(thread.join)
    client_s, server_s = time.process_time() - mine, cpu_s(pid) - before
    for face in faces:
        await face.stop()
    every = np.array([hop for mine in hops for hop in mine])
    return {
        "server": name,
        "streams": streams,
        "frames": frames * streams,
        "received": len(every),
        "ms_per_frame": {f"p{p}": round(float(np.percentile(every, p)), 2) for p in (50, 99)},
        "client_cpu_ms_per_frame": round(client_s * 1000 / len(every), 3),
        "server_cpu_ms_per_frame": round(server_s * 1000 / len(every), 3),
    }


async def run(streams: Sequence[int], seconds: float) -> None:
    """Both servers under each load."""
    port = free_port()
    process = multiprocessing.get_context("spawn").Process(target=echo, args=(port,), daemon=True)
    process.start()
    try:
        async with serve({"look_ahead_ms": "0"}, slots=100) as server:
            echo_url, pid = f"http://127.0.0.1:{port}", process.pid or 0
            for count in streams:
                print(
                    json.dumps(
                        await case(
                            "ours", f"http://bench:{local_token()}@{server.http}", server.pid, count, seconds
                        )
                    ),
                    flush=True,
                )
                print(json.dumps(await case("echo", echo_url, pid, count, seconds)), flush=True)
    finally:
        process.kill()
        process.join()


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=lambda t: [int(n) for n in t.split(",")], default=[1, 8])
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    asyncio.run(run(options.streams, options.seconds))


if __name__ == "__main__":
    main()
