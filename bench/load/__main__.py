"""Many calls at once through the whole orchestrator: ``python -m bench.load [--calls 300] [--seconds 60]``

Every call shows its avatar's idle video and sends voice, 25 pictures a second and RTCP of its own (from light
phones in other processes). One more phone, that records what it receives, tells how late packets come. Printed:
calls set up and refused, CPU and memory of each process of the orchestrator, the media clock's lateness as the
orchestrator reports it, and what is left when the calls have ended.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from contextlib import AsyncExitStack
from multiprocessing.connection import Connection
from statistics import median

from bench.load import phones as load_phones
from testing.caller import CallFailed, Phone
from testing.caller.media import addresses
from testing.caller.phone import offer
from testing.caller.recording import Stream, access_units
from testing.caller.signalling import Dialog
from testing.loss_judge import send_jitter_ms
from testing.ports import free_ports
from testing.processes import Process, family, gauge
from tests.support.house import House, orchestrator
from tests.support.servers import inference_server

SENDERS = 2
PATIENCE_S = 120.0


class Crowd:
    """Calls whose media comes from light phones; ``refused`` were turned away at least once."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._dialogs = AsyncExitStack()
        self._senders: list[tuple[Connection, multiprocessing.process.BaseProcess]] = []
        self.refused = 0
        self.kept_pace: list[float] = []

    async def call(self, count: int, per_second: float) -> None:
        """Set up the calls, so many a second at most; each sends at once."""
        context = multiprocessing.get_context("spawn")
        hosts = [f"127.0.{1 + number // 250}.{1 + number % 250}" for number in range(count)]
        shares = [hosts[number::SENDERS] for number in range(SENDERS)]
        for share in shares:
            pipe, end = context.Pipe()
            process = context.Process(target=load_phones.run, args=(end, share), daemon=True)
            process.start()
            ports = await asyncio.to_thread(pipe.recv)
            self._senders.append((pipe, process))
            for host, (audio, video) in zip(share, ports, strict=True):
                answer = await self._one(host, audio, video)
                pipe.send((answer["audio"], answer["video"]))
                await asyncio.sleep(1 / per_second)

    async def _one(self, host: str, audio: int, video: int) -> dict[str, tuple[str, int]]:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            async with AsyncExitStack() as attempt:
                dialog = await attempt.enter_async_context(Dialog(self._house.uri, host))
                try:
                    answer = await dialog.invite(offer(host, audio, video))
                except CallFailed:
                    self.refused += 1
                    if time.monotonic() > deadline:
                        raise
                else:
                    self._dialogs.push_async_exit(attempt.pop_all())
                    return addresses(answer)
            await asyncio.sleep(1.0)

    async def hang_up(self) -> None:
        """End every call, then the phones."""
        await self._dialogs.aclose()
        for pipe, process in self._senders:
            pipe.send(None)
            self.kept_pace.append(await asyncio.to_thread(pipe.recv))
            await asyncio.to_thread(process.join)


def since(stream: Stream, moment: float) -> Stream:
    """What of it came after a moment."""
    return Stream(stream.clock_rate, [packet for packet in stream.packets if packet.arrived >= moment])


async def load(options: argparse.Namespace) -> bool:
    """Whether every call was set up and everything was given back."""
    ports = 4 * options.calls + 40
    low = free_ports(ports)
    limits = {"max_calls": options.calls + 5, "rtp_port_min": low, "rtp_port_max": low + ports - 1}
    async with (
        inference_server(max_sessions=options.calls + 5) as server,
        orchestrator([server], media_workers=options.workers, **limits) as house,
    ):
        async with Phone(house.uri) as probe:
            await house.idle_cached(await house.call_id())
            pids = family(house.process.pid)
            before = [Process.read(pid) for pid in pids]
            crowd, began = Crowd(house), time.monotonic()
            await crowd.call(options.calls, options.rate)
            spent = time.monotonic() - began
            print(f"{options.calls} calls up after {spent:.0f} s, {crowd.refused} refusals", flush=True)
            await asyncio.sleep(options.settle)
            first, at = [Process.read(pid) for pid in pids], time.monotonic()
            lateness, worst = [], []
            while time.monotonic() - at < options.seconds:
                await asyncio.sleep(1.0)
                lateness.append(1000 * await gauge(house.api, "visavis_media_lateness_p99_seconds"))
                worst.append(1000 * await gauge(house.api, "visavis_media_lateness_max_seconds"))
            elapsed = time.monotonic() - at
            last = [Process.read(pid) for pid in pids]
            active = await gauge(house.api, "visavis_calls_active") - 1
            voice, picture = since(probe.recording.audio, at), since(probe.recording.video, at)
            await crowd.hang_up()
        await asyncio.sleep(options.settle)
        after = [Process.read(pid) for pid in pids]
        left = [
            await gauge(house.api, f"visavis_{name}")
            for name in ("calls_active", "media_calls", "media_ports")
        ]
    for name, a, b, c, d in zip(["control", *["media"] * 64], before, first, last, after, strict=False):
        print(
            f"{name:8} {100 * (c.cpu_s - b.cpu_s) / elapsed:.0f} % of a core; RSS in MiB {a.rss_kib / 1024:.0f} "
            f"with one call, {b.rss_kib / 1024:.0f} with them, {c.rss_kib / 1024:.0f} after {elapsed:.0f} s "
            f"({100 * (c.rss_kib - b.rss_kib) / b.rss_kib:+.1f} %), {d.rss_kib / 1024:.0f} after them; "
            f"files open {a.files}, {c.files}, {d.files}"
        )
    print(
        f"media clock, each second: p99 late {median(lateness):.1f} ms (median), {max(lateness):.1f} at worst; "
        f"worst packet {max(worst):.1f}; {active:.0f} calls at the end; "
        f"the phones kept {min(crowd.kept_pace):.1%} of their pace"
    )
    beat = send_jitter_ms(voice)
    print(
        f"one phone more: {len(voice.packets)} packets of voice in {elapsed:.1f} s, {voice.lost} lost, "
        f"{beat[0]:.1f} ms off beat (p99 {beat[1]:.1f}); {len(access_units(picture.ordered()))} pictures, "
        f"{picture.lost} packets lost"
    )
    print(f"left: {left[0]:.0f} calls, {left[1]:.0f} in workers, {left[2]:.0f} port pairs")
    return not any(left) and active == options.calls


def main() -> None:
    """Exit status 1 where calls were lost or something was left."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long all calls are held")
    parser.add_argument("--rate", type=float, default=5.0, help="calls set up a second at most")
    parser.add_argument("--settle", type=float, default=10.0, help="s before and after what is measured")
    parser.add_argument("--workers", type=int, default=1, help="media workers")
    raise SystemExit(0 if asyncio.run(load(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
