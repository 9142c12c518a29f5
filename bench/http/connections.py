"""A thousand connections at once to the HTTP face, and what a stream that speaks meanwhile notices.

``python -m bench.http.connections``: one ``/v1/converse`` stream speaks in real time (25 fps, mock engine), alone
first, then while ``--count`` more sockets ask for a conversation at one moment and as many connections say nothing
at all. The server has its default limits. Prints how each was answered and the stream's milliseconds per frame.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import concurrent.futures
import contextlib
import json
import multiprocessing
import time

import cv2
import httpx
import numpy as np
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from bench.http.faces import SIDE, Seen, over_socket
from bench.server import FRAME, START_S, TICK_S, Server, serve
from tests.support.credentials import local_headers

SECONDS = 8.0
STAY_S = 6.0


async def attempt(address: str, avatar_id: str, done: asyncio.Event) -> str:
    """One more conversation; how it was answered."""
    url = f"ws://{address}/v1/converse"
    try:
        who = local_headers()
        async with connect(
            url, compression=None, open_timeout=START_S, proxy=None, additional_headers=who
        ) as ws:
            await ws.send(json.dumps({"type": "open", "avatar_id": avatar_id}))
            answer = json.loads(await ws.recv())
            if answer["type"] == "opened":
                await done.wait()
                return "opened"
            return f"refused: {answer['detail']}"
    except InvalidStatus as refused:
        return (
            f"HTTP {refused.response.status_code}: {json.loads(refused.response.body or b'{}').get('detail')}"
        )
    except (ConnectionClosed, OSError, EOFError, TimeoutError) as error:
        return f"no answer ({type(error).__name__})"


async def silent(address: str, done: asyncio.Event) -> str:
    """A connection that says nothing; how it was answered."""
    host, _, port = address.rpartition(":")
    try:
        reader, writer = await asyncio.open_connection(host, int(port))
    except OSError as error:
        return f"no connection ({error})"
    waiting = asyncio.create_task(done.wait())
    reading = asyncio.create_task(reader.read(4096))
    await asyncio.wait({waiting, reading}, return_when=asyncio.FIRST_COMPLETED)
    answer = "kept"
    if reading.done():
        with contextlib.suppress(OSError):
            answer = reading.result().decode().partition("\r\n")[0] or "closed"
    for task in (waiting, reading):
        task.cancel()
    await asyncio.gather(waiting, reading, return_exceptions=True)
    writer.close()
    return answer


def crowd(address: str, avatar_id: str, count: int) -> collections.Counter[str]:
    """All at one moment, in a process of their own; how they were answered."""

    async def come() -> collections.Counter[str]:
        done = asyncio.Event()
        tasks = [asyncio.create_task(attempt(address, avatar_id, done)) for _ in range(count)]
        tasks += [asyncio.create_task(silent(address, done)) for _ in range(count)]
        await asyncio.sleep(STAY_S)
        done.set()
        return collections.Counter(await asyncio.gather(*tasks))

    return asyncio.run(come())


async def spoken(server: Server, avatar_id: str, pcm: bytes, title: str) -> None:
    """One turn in real time and its figures."""
    seen, frames = Seen(), int(SECONDS / TICK_S)
    await over_socket(server, avatar_id, pcm)(0, time.perf_counter() + 0.5, frames, seen)
    p50, p99, most = np.percentile(seen.hops, (50, 99, 100))
    got = f"{len(seen.hops)} of {frames} frames"
    print(f"{title}: {got}, p50 {p50:.1f} ms, p99 {p99:.1f} ms, at most {most:.0f} ms", flush=True)


async def run(count: int) -> None:
    """Alone, then in the crowd."""
    noise = np.random.default_rng(0)
    image = cv2.imencode(".png", noise.integers(0, 256, (96, 96, 3), np.uint8))[1].tobytes()
    pcm = noise.integers(-9000, 9000, FRAME, np.int16).tobytes()
    async with (
        serve({"look_ahead_ms": "0"}) as server,
        httpx.AsyncClient(timeout=START_S, trust_env=False, headers=local_headers()) as http,
    ):
        size = {"width": SIDE, "height": SIDE}
        answer = await http.post(f"http://{server.http}/v1/avatars", content=image, params=size)
        avatar_id = answer.raise_for_status().json()["avatar_id"]
        await spoken(server, avatar_id, pcm, "alone")
        speaking = asyncio.create_task(spoken(server, avatar_id, pcm, f"while {2 * count} connections come"))
        await asyncio.sleep(1.5)
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as elsewhere:
            crowding = asyncio.get_running_loop().run_in_executor(
                elsewhere, crowd, server.http, avatar_id, count
            )
            await speaking
            for outcome, times in (await crowding).most_common():
                print(f"{times:6} {outcome}")
        await spoken(server, avatar_id, pcm, "afterwards")


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    asyncio.run(run(parser.parse_args().count))


if __name__ == "__main__":
    main()
