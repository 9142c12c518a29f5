"""What thousands of silent connections cost: ``python -m bench.connection_attack [--connections 1100]``

An orchestrator of its own, whose process may have 1024 descriptors, as is usual. So many connections are opened to
the API's port and to SIP over TCP, from several addresses of the loopback, and say nothing for ten seconds; those
that are closed are opened again. Meanwhile an honest call goes on, another one is made, and the API is asked twice
a second over connections of its own. The voice is compared with a busy loop's in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import resource
import socket
import sys
import time
from multiprocessing.synchronize import Event

from bench.media_attack import aside, busy, p99_ms, since
from testing.caller import Phone
from testing.ports import free_port
from tests.support.house import House, orchestrator

SOURCES = [f"127.0.0.{number}" for number in range(40, 48)]
HOLD_S = 10.0
ALLOWED_MS = 5.0
LOG_BYTES = 100_000
NICE = 19


def hold(ports: tuple[int, ...], connections: int, opened: Event, over: Event) -> None:
    """Keep so many silent connections to each port."""
    os.nice(NICE)
    held: dict[int, list[socket.socket]] = {port: [] for port in ports}
    while not over.is_set():
        for port, socks in held.items():
            for sock in list(socks):
                with contextlib.suppress(BlockingIOError):
                    try:
                        gone = sock.recv(1, socket.MSG_PEEK) == b""
                    except ConnectionError:
                        gone = True
                    if gone:
                        sock.close()
                        socks.remove(sock)
            for number in range(connections - len(socks)):
                sock = socket.socket()
                sock.bind((SOURCES[number % len(SOURCES)], 0))
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(("127.0.0.1", port))
                socks.append(sock)
        opened.set()
        time.sleep(0.2)


async def ask(house: House, seconds: float) -> list[float]:
    """How long the API took, each time over a connection of its own; infinity where it did not answer."""
    took = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        answer = b""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(
                5
            ):  # by hand: making a client would hold up the phone that listens here
                reader, writer = await asyncio.open_connection("127.0.0.1", house.api.base_url.port)
                writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
                answer = await reader.readline()
                writer.close()
        took.append(time.monotonic() - began if b" 200 " in answer else float("inf"))
        await asyncio.sleep(0.5)
    return took


async def dial(house: House) -> float:
    """Seconds until another call is answered; infinity where it is not."""
    began = time.monotonic()
    with contextlib.suppress(Exception):
        async with asyncio.timeout(10), Phone(house.uri):
            return time.monotonic() - began
    return float("inf")


async def main(connections: int) -> bool:
    """Before, during; whether it held."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    async with orchestrator([f"127.0.0.1:{free_port()}"], wait=False) as house:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        await house.answering()
        async with Phone(house.uri) as phone:
            await asyncio.sleep(3.0)
            logged = len(json.dumps(house.log))
            context = multiprocessing.get_context("spawn")
            opened, over = context.Event(), context.Event()
            ports = (house.api.base_url.port or 0, house.sip_port)
            attacker = context.Process(target=hold, args=(ports, connections, opened, over))
            attacker.start()
            await asyncio.to_thread(opened.wait)
            marks = len(phone.recording.audio.packets), len(phone.recording.video.packets)
            took, called = await asyncio.gather(ask(house, HOLD_S), dial(house))
            arrived, pictures = since(phone, *marks)
            over.set()
            await asyncio.to_thread(attacker.join)
            start = len(phone.recording.audio.packets)
            await aside(busy, 1.0, HOLD_S)
            calm = p99_ms(since(phone, start, 0)[0])
        logged = len(json.dumps(house.log)) - logged
    answered = [seconds for seconds in took if seconds < 1]
    worse = p99_ms(arrived) - calm
    print(f"{connections} silent connections to the API and as many to SIP over TCP, for {HOLD_S:g} s")
    print(f"the API answered {len(answered)} of {len(took)} within a second, {max(took):.2f} s at most")
    print(f"another call was answered after {called:.2f} s")
    print(f"the honest call got {len(arrived)} packets, {worse:+.1f} ms at p99, and {pictures} pictures")
    print(f"logged: {logged} bytes")
    held = len(answered) == len(took) and called < 1 and worse <= ALLOWED_MS and pictures > 0
    held = held and logged < LOG_BYTES
    print("held" if held else "NOT HELD")
    return held


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--connections", type=int, default=1100)
    sys.exit(not asyncio.run(main(parser.parse_args().connections)))
