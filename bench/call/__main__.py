"""Whole calls measured from the phone's end: first-frame latency, A/V offset, bytes on the gRPC wire.

``python -m bench.call latency|offset|wire|interrupt [--engine portrait] [--seconds 300]``
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import statistics
import time
from collections.abc import AsyncIterator

import numpy as np
from numpy.typing import NDArray

from bench.call.barge_in import barge_in
from orchestrator.speech.hibari import HibariVoice
from testing.caller import Phone
from tests.support.house import House, orchestrator, wav_header
from tests.support.servers import running_server
from visavis import portraits

SENTENCE = (
    "Hello, I am the face of this call. You hear my voice, and my lips follow every word that I say. "
    "Please tell me what you would like to know."
)
RATE = 8000


class Relay:
    """A TCP relay that counts bytes each way."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.partition(":")
        self._port = int(port)
        self.up = self.down = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> str:
        """The address to connect to instead."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self._host, self._port)
        await asyncio.gather(self._pump(reader, back, "up"), self._pump(there, writer, "down"))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: str) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while data := await reader.read(1 << 16):
                setattr(self, way, getattr(self, way) + len(data))
                writer.write(data)
                await writer.drain()
        writer.close()


async def speech(text: str = SENTENCE) -> NDArray[np.int16]:
    """The sentence in the default voice, 24 kHz."""
    return np.concatenate([chunk async for chunk in HibariVoice().stream(text, "en")])


@contextlib.asynccontextmanager
async def setting(engine: str, relay: bool = False) -> AsyncIterator[tuple[House, Relay | None]]:
    """Both services with the default portrait."""
    portrait = portraits.DEFAULT.read_bytes()
    async with running_server(engine=engine) as server:
        counter = Relay(server.address) if relay else None
        address = await counter.start() if counter else server.address
        async with orchestrator([address], portrait=portrait) as house:
            yield house, counter


async def one_turn(house: House, phone: Phone, sound: NDArray[np.int16], *, real_time: bool) -> float:
    """Speak once; seconds from the first byte of sound to the first packets of voice and lips."""
    call = await house.call_id()
    begun = 0.0

    async def body() -> AsyncIterator[bytes]:
        nonlocal begun
        yield wav_header(24_000)
        begun = start = time.monotonic()
        if not real_time:
            yield sound.tobytes()
            return
        for n in range(0, len(sound), 480):
            yield sound[n : n + 480].tobytes()
            await asyncio.sleep(max(0.0, start + (n / 480 + 1) * 0.02 - time.monotonic()))

    answer = await house.api.post(f"/v1/calls/{call}/play", content=body())
    await house.turn(call, answer.json()["turn_id"])
    await asyncio.sleep(0.4)
    quiet = {b"\xff" * 160, b"\x7f" * 160}
    first = next(
        p.arrived for p in phone.recording.audio.packets if p.arrived > begun and p.payload not in quiet
    )
    return first - begun


async def latency(engine: str, turns: int) -> None:
    """From the first PCM byte posted to the first spoken packet; late frames tell whether lips were there."""
    sound = await speech("Good morning. How are you?")
    start = np.flatnonzero(np.abs(sound) > 200)[0]
    sound = sound[start:]
    async with setting(engine) as (house, _):
        for real_time in (False, True):
            async with Phone(house.uri) as phone:
                call = await house.call_id()
                await house.idle_cached(call)
                took = [await one_turn(house, phone, sound, real_time=real_time) for _ in range(turns)]
                figures = (await house.call(call))["media"]
            rest = took[1:] or took
            name = "20 ms chunks in real time" if real_time else "one burst"
            print(
                f"first PCM byte to first spoken packet, {name}: the call's first turn {took[0] * 1000:.0f} ms, "
                f"then median {statistics.median(rest) * 1000:.0f} ms, worst {max(rest) * 1000:.0f} ms "
                f"over {len(rest)} turns; frames {figures['frames_shown']} shown, "
                f"{figures['frames_late']} late; first frame p95 {figures['first_frame_ms']:.0f} ms"
            )


async def offset(engine: str, seconds: float) -> None:
    """How much later than the voice each picture arrives, by the sender reports, over a long call."""
    sound = await speech()
    async with setting(engine) as (house, _), Phone(house.uri) as phone:
        call = await house.call_id()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await one_turn(house, phone, sound, real_time=False)
            await asyncio.sleep(1.5)
        figures = (await house.call(call))["media"]
        recording = phone.recording
    skew = recording.skew_ms()
    times, values = np.array([t for t, _ in skew]), np.array([ms for _, ms in skew])
    fit = np.polyfit(times, values, 1)
    inside = float((np.abs(values) <= 40).mean() * 100)
    print(
        f"A/V offset as received over {seconds:.0f} s: median {np.median(values):+.1f} ms, "
        f"p1 {np.percentile(values, 1):+.1f}, p99 {np.percentile(values, 99):+.1f}, worst "
        f"{values[np.abs(values).argmax()]:+.1f} ms; within 40 ms: {inside:.2f} % of {len(values)} pictures; "
        f"{int((np.abs(values) > 100).sum())} off by more than 100 ms; "
        f"drift {fit[0] * seconds:+.2f} ms over the call; load average {os.getloadavg()[0]:.1f}"
    )
    reports = [
        (a[0], (recording.video.sender_time(v[1]) - v[0]) * 1000)
        for a, v in zip(recording.audio.reports, recording.video.reports, strict=False)
    ]
    ours = [abs(recording.audio.sender_time(t) - ntp) * 1000 for ntp, t, _ in recording.audio.reports]
    theirs = [abs(ms) for _, ms in reports]
    print(
        f"sender reports agree with one clock to {max(ours):.2f} ms (audio), {max(theirs):.2f} ms (video); "
        f"lost: audio {recording.audio.lost}, video {recording.video.lost}; {figures['frames_late']} frames late"
    )


async def wire(engine: str) -> None:
    """Bytes a speaking second against raw RGB24."""
    sound = await speech()
    async with setting(engine, relay=True) as (house, relay), Phone(house.uri) as phone:
        assert relay is not None
        call = await house.call_id()
        await house.idle_cached(call)
        idle_from = relay.up + relay.down
        await asyncio.sleep(3)
        idle = (relay.up + relay.down - idle_from) / 3
        up, down = relay.up, relay.down
        await one_turn(house, phone, sound, real_time=False)
        seconds = len(sound) / 24_000
    raw = 512 * 512 * 3 * 25
    down_rate, up_rate = (relay.down - down) / seconds, (relay.up - up) / seconds
    print(
        f"gRPC bytes a speaking second, 512x512 at 25 fps: {down_rate / 1e6:.3f} MB down, "
        f"{up_rate / 1e6:.3f} MB up, 1/{raw / (down_rate + up_rate):.1f} of raw RGB24 ({raw / 1e6:.1f} MB); "
        f"idle {idle:.0f} bytes/s"
    )


async def interrupt(turns: int) -> None:
    """From the interruption's HTTP request to silence and to a closed mouth."""
    async with setting("mock") as (house, _), Phone(house.uri) as phone:
        for line in (await barge_in(house, phone, turns)).lines():
            print(line)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("what", choices=["latency", "offset", "wire", "interrupt"])
    parser.add_argument(
        "--engine", default="portrait", help="of all but `interrupt`, which reads the test card"
    )
    parser.add_argument("--seconds", type=float, default=300.0, help="length of the call of `offset`")
    parser.add_argument("--turns", type=int, default=10)
    options = parser.parse_args()
    match options.what:
        case "latency":
            asyncio.run(latency(options.engine, options.turns))
        case "offset":
            asyncio.run(offset(options.engine, options.seconds))
        case "wire":
            asyncio.run(wire(options.engine))
        case "interrupt":
            asyncio.run(interrupt(options.turns))


if __name__ == "__main__":
    main()
