"""What hostile clients of an inference server cost an honest one: ``python -m bench.inference_attack``

An honest stream speaks nine seconds in real time: alone, beside eight streams that send 590 s of audio at once, and
beside as many that move their playheads ten times too fast. Then 30 uploads of 40 MiB that are no pictures come at
once over gRPC, and 30 that stop before their end over HTTP; 30 streams send messages of 44 MiB, opened or not, and
five times the largest message that is taken. The front's memory is read. The portrait engine, on the loopback;
attackers run at nice 19. Prints one line a scene; the exit status says whether the honest stream kept 99 % of its
frames and the front its memory.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from tests.support.avatar_client import Conversation, connect, prepare
from tests.support.credentials import local_token
from tests.support.servers import running_server
from visavis import portraits
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client.wire import PIECE

FRAME, TICK_S, SECONDS = 640, 0.04, 9
FRAMES = int(SECONDS / TICK_S)
HOSTILE, FLOOD_S = 8, 590
UPLOADS, UPLOAD_BYTES = 30, 40 << 20
KEPT = 0.99
STREAMS, MESSAGE_BYTES, LARGEST, ROUNDS = 30, 44 << 20, 2 << 20, 5
IDLE_TIMES, BUDGET = 1.5, STREAMS * LARGEST
"""The front may have so many times its memory, and of each stream one message of the largest size."""
NICE = 19
SERVER = {"video_bytes": UPLOAD_BYTES + 1, "image_bytes": UPLOAD_BYTES + 1}


async def honest(address: str, avatar_id: str) -> dict[str, Any]:
    """One turn in real time: how many of its frames came before they were to be shown."""
    noise = np.random.default_rng(0).integers(-9000, 9000, FRAME, np.int16).tobytes()
    async with connect(address) as stub:
        talk = Conversation(stub)
        await talk.open(avatar_id)
        begin, kept, late = time.monotonic() + 0.2, set[int](), 0

        async def speak() -> None:
            await talk.send(turn_start=pb.TurnStart(turn_id=1))
            await talk.send(anchor=pb.Anchor(turn_id=1))
            for k in range(FRAMES):
                await asyncio.sleep(max(0.0, begin + k * TICK_S - time.monotonic()))
                await talk.send(audio=pb.Audio(turn_id=1, first_sample=k * FRAME, pcm=noise))
                await talk.send(playhead=pb.Playhead(turn_id=1, audio_sample=(k - 8) * FRAME, playing=True))
            await talk.send(end_of_turn=pb.EndOfTurn(turn_id=1))
            for k in range(FRAMES, FRAMES + 12):
                await asyncio.sleep(max(0.0, begin + k * TICK_S - time.monotonic()))
                await talk.send(playhead=pb.Playhead(turn_id=1, audio_sample=(k - 8) * FRAME, playing=True))

        speaking = asyncio.create_task(speak())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SECONDS + 15):
                while (response := await talk.read()) is not None:
                    if response.HasField("turn_finished"):
                        break
                    if response.HasField("turn_rejected"):
                        break
                    if response.HasField("frame"):
                        number = response.frame.audio_sample // FRAME
                        shown = begin + (number + 8) * TICK_S
                        late += time.monotonic() > shown
                        if time.monotonic() <= shown:
                            kept.add(number)
        speaking.cancel()
        await asyncio.gather(speaking, return_exceptions=True)
        talk.call.cancel()
    return {"frames": FRAMES, "kept": len([n for n in kept if n < FRAMES]), "late": late}


async def flood(address: str, avatar_id: str) -> None:
    """A long turn at once, and silence."""
    audio = np.random.default_rng(1).integers(-9000, 9000, 16_000 * 20, np.int16).tobytes()
    async with connect(address) as stub:
        talk = Conversation(stub)
        await talk.open(avatar_id)
        await talk.send(turn_start=pb.TurnStart(turn_id=1))
        await talk.send(anchor=pb.Anchor(turn_id=1))
        for at in range(0, 16_000 * FLOOD_S - 16_000 * 20, 16_000 * 20):
            await talk.send(audio=pb.Audio(turn_id=1, first_sample=at, pcm=audio))
        await asyncio.Event().wait()


async def haste(address: str, avatar_id: str) -> None:
    """A turn whose playhead runs ten times too fast, so that its frames are due at once."""
    audio = np.random.default_rng(1).integers(-9000, 9000, 16_000 * 20, np.int16).tobytes()
    async with connect(address) as stub:
        talk = Conversation(stub)
        await talk.open(avatar_id)

        async def read() -> None:
            while await talk.read() is not None:
                pass

        reading = asyncio.create_task(read())
        for turn in range(1, 1000):
            await talk.send(turn_start=pb.TurnStart(turn_id=turn))
            await talk.send(anchor=pb.Anchor(turn_id=turn))
            for part in range(5):
                at = part * 16_000 * 20
                await talk.send(audio=pb.Audio(turn_id=turn, first_sample=at, pcm=audio))
            for step in range(250):
                await talk.send(
                    playhead=pb.Playhead(turn_id=turn, audio_sample=step * FRAME * 10, playing=True)
                )
                await asyncio.sleep(TICK_S)
            await talk.send(end_of_turn=pb.EndOfTurn(turn_id=turn))
        await reading


def attack(kind: str, address: str, avatar_id: str) -> None:
    """A process of hostile clients."""
    os.nice(NICE)

    async def run() -> None:
        work = {"flood": flood, "haste": haste}[kind]
        await asyncio.gather(*(work(address, avatar_id) for _ in range(HOSTILE)), return_exceptions=True)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def attacked(kind: str, address: str, avatar_id: str) -> AsyncIterator[None]:
    """Hostile clients meanwhile."""
    process = multiprocessing.get_context("spawn").Process(target=attack, args=(kind, address, avatar_id))
    process.start()
    await asyncio.sleep(3.0)
    try:
        yield
    finally:
        process.kill()
        process.join()


async def upload(address: str) -> None:
    """One that is refused when all of it has come."""
    async with connect(address) as stub:
        with contextlib.suppress(grpc.aio.AioRpcError):
            call = stub.UploadAvatar(timeout=60)
            await call.read()
            for at in range(0, UPLOAD_BYTES, PIECE):
                head = b"" if at else b"\x89PNG\r\n\x1a\n"
                await call.write(pb.PrepareAvatarRequest(image=head + bytes(PIECE - len(head))))
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
                pass


def uploads(address: str) -> None:
    """A process of uploaders."""
    os.nice(NICE)

    async def run() -> None:
        await asyncio.gather(*(upload(address) for _ in range(UPLOADS)))

    asyncio.run(run())


def memory(pid: int, name: str) -> int:
    """Bytes: VmRSS now, or VmHWM at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name))) * 1024


def reset_peak(pid: int) -> None:
    """VmHWM counts from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def unfinished(address: str) -> None:
    """A process of uploaders over HTTP that stop before the end."""
    os.nice(NICE)
    host, _, port = address.removeprefix("http://").rpartition(":")
    token = local_token()
    head = f"POST /v1/avatars HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
    head += f"Content-Type: video/mp4\r\nContent-Length: {UPLOAD_BYTES}\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(UPLOADS):
            sock = stack.enter_context(socket.create_connection((host, int(port))))
            sock.settimeout(0.5)
            with contextlib.suppress(TimeoutError, ConnectionError):
                sock.sendall(head.encode() + bytes(UPLOAD_BYTES - 1000))


async def message(address: str, avatar_id: str, size: int, *, opened: bool) -> None:
    """A stream whose first message, or first after Open, is as large."""
    async with connect(address) as stub:
        talk = Conversation(stub)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            if opened:
                await talk.open(avatar_id)
            audio = pb.Audio(turn_id=1, pcm=bytes(size - 32))
            async with asyncio.timeout(30):
                await talk.send(audio=audio)
                while await talk.read() is not None:
                    pass


def messages(address: str, avatar_id: str, largest: int) -> None:
    """A process of streams with large messages."""
    os.nice(NICE)

    async def run() -> None:
        for size, rounds in ((MESSAGE_BYTES, 1), (largest, ROUNDS)):
            for opened in (False, True):
                for _ in range(rounds):
                    await asyncio.gather(
                        *(message(address, avatar_id, size, opened=opened) for _ in range(STREAMS))
                    )

    asyncio.run(run())


async def uploaded(pid: int, attacker: Callable[..., None], *arguments: Any) -> dict[str, int]:
    """Memory of the front before, and at most while it is attacked, in MiB."""
    before = memory(pid, "VmRSS")
    reset_peak(pid)
    process = multiprocessing.get_context("spawn").Process(target=attacker, args=arguments)
    process.start()
    await asyncio.to_thread(process.join)
    return {"before_mib": before >> 20, "most_mib": memory(pid, "VmHWM") >> 20}


async def run(scenes: list[str]) -> bool:
    """All scenes; whether they held."""
    held = True
    async with running_server(engine="portrait", **SERVER) as server:
        async with connect(server.address) as stub:
            avatar = await prepare(stub, portraits.DEFAULT.read_bytes(), width=512, height=512)
        for scene in scenes:
            if scene in ("uploads", "unfinished", "messages"):
                attackers: dict[str, tuple[Any, ...]] = {
                    "uploads": (uploads, server.address),
                    "unfinished": (unfinished, f"127.0.0.1:{server.http_port}"),
                    "messages": (messages, server.address, avatar.avatar_id, LARGEST),
                }
                figures = await uploaded(server.pid, *attackers[scene])
                ok = figures["most_mib"] <= IDLE_TIMES * figures["before_mib"] + (BUDGET >> 20)
            else:
                async with contextlib.AsyncExitStack() as stack:
                    if scene != "alone":
                        await stack.enter_async_context(attacked(scene, server.address, avatar.avatar_id))
                    figures = await honest(server.address, avatar.avatar_id)
                ok = figures["kept"] >= KEPT * FRAMES
            held = held and ok
            print(json.dumps({"scene": scene, **figures, "held": ok}), flush=True)
    return held


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    names = ["alone", "flood", "haste", "uploads", "unfinished", "messages"]
    parser.add_argument("--scenes", type=lambda text: text.split(","), default=names)
    sys.exit(0 if asyncio.run(run(parser.parse_args().scenes)) else 1)


if __name__ == "__main__":
    main()
