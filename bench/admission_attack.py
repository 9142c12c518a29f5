"""A flood of calls from one address, beside honest callers: ``python -m bench.admission_attack``

One source floods the whole orchestrator with INVITEs: 100 datagrams at once; 3.3 a second; 20 a second that it
acknowledges, so that the calls stand; 1 000 a second. It acknowledges none of the others.
Beside it one honest call goes on and a second honest source dials each second. Printed for each flood: the lines in
use over time, how many of the dials were answered 200 and how fast, and the gaps between the packets of voice
that the honest call receives. Last comes a busy loop that takes as much CPU as the generator of the quickest flood
did, for comparison. Generator and loop run at nice 19. All on the loopback; the floods are bounded in number
and time.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from orchestrator.config import Settings
from testing.caller import CallFailed, Phone
from testing.caller.phone import offer
from testing.caller.recording import Stream
from testing.caller.signalling import Dialog
from testing.ports import free_ports
from testing.processes import gauge
from tests.support.house import House, orchestrator
from tests.support.servers import inference_server

ATTACKER, HONEST, DIALLER = "127.0.0.66", "127.0.0.2", "127.0.0.3"
MOST_DATAGRAMS = 50_000
DIAL_S = 5.0
NICE = 19


@dataclass(frozen=True)
class Flood:
    """``burst`` datagrams at once, then ``rate`` a second, for so many seconds.

    With ``acks`` each 200 gets its ACK. ``busy`` is the part of a core that a loop takes instead.
    """

    name: str
    burst: int = 0
    rate: float = 0.0
    seconds: float = 12.0
    busy: float = 0.0
    acks: bool = False


@dataclass
class Seen:
    """What honest callers saw meanwhile."""

    lines: list[tuple[float, float]] = field(default_factory=list)
    answered_s: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    gaps_ms: tuple[float, float] = (0.0, 0.0)
    generator: dict[str, float] = field(default_factory=dict)


def invite(number: int, run: int, port: int, source: tuple[str, int], media_port: int) -> bytes:
    """A whole INVITE of a call of its own, with a voice-and-video offer."""
    host, own = source
    body = offer(host, media_port, media_port)
    head = [
        f"INVITE sip:demo@127.0.0.1:{port} SIP/2.0",
        f"Via: SIP/2.0/UDP {host}:{own};branch=z9hG4bKf{run}x{number};rport",
        "Max-Forwards: 70",
        f"From: <sip:f@{host}>;tag=f{number}",
        f"To: <sip:demo@127.0.0.1:{port}>",
        f"Call-ID: f{run}x{number}",
        "CSeq: 1 INVITE",
        f"Contact: <sip:f@{host}:{own}>",
        "Content-Type: application/sdp",
        f"Content-Length: {len(body)}",
    ]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


def acknowledge(sip: socket.socket) -> None:
    """ACK every 200 that has come."""
    while True:
        try:
            answer, far = sip.recvfrom(4096)
        except BlockingIOError:
            return
        if answer.startswith(b"SIP/2.0 200"):
            head = dict(
                line.split(": ", 1) for line in answer.decode().split("\r\n\r\n")[0].split("\r\n")[1:]
            )
            kept = "".join(f"{name}: {head[name]}\r\n" for name in ("From", "To", "Call-ID"))
            via = f"Via: SIP/2.0/UDP {ATTACKER}:{sip.getsockname()[1]};branch=z9hG4bK{head['Call-ID']}a;rport\r\n"
            target = head["Contact"].split("<")[-1].split(">")[0]
            sip.sendto(
                f"ACK {target} SIP/2.0\r\n{via}{kept}CSeq: 1 ACK\r\nMax-Forwards: 70\r\n"
                "Content-Length: 0\r\n\r\n".encode(),
                far,
            )


def generate(port: int, flood: Flood) -> None:
    """The generator's process: floods, and says how much it sent and what CPU that took."""
    os.nice(NICE)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sip,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media,
    ):
        for each in (sip, media):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            each.bind((ATTACKER, 0))
        if flood.acks:
            sip.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            sip.setblocking(False)
        source, media_port = sip.getsockname(), media.getsockname()[1]
        began, cpu, sent, run = time.monotonic(), time.process_time(), 0, os.getpid()
        while (elapsed := time.monotonic() - began) < flood.seconds:
            due = min(MOST_DATAGRAMS, flood.burst + int(elapsed * flood.rate))
            for number in range(sent, due):
                sip.sendto(invite(number, run, port, source, media_port), ("127.0.0.1", port))
            sent = due
            if flood.acks:
                acknowledge(sip)
            time.sleep(0.002 if flood.rate > 100 else 0.05)
        used = time.process_time() - cpu
    print(json.dumps({"sent": sent, "cpu": used / flood.seconds}), flush=True)


def burn(flood: Flood) -> None:
    """The busy loop's process: so much of a core, in slices of 2 ms."""
    os.nice(NICE)
    began, cpu = time.monotonic(), time.process_time()
    while (elapsed := time.monotonic() - began) < flood.seconds:
        if time.process_time() - cpu < elapsed * flood.busy:
            continue
        time.sleep(0.002)
    print(json.dumps({"sent": 0, "cpu": (time.process_time() - cpu) / flood.seconds}), flush=True)


def gaps(voice: Stream, since: float) -> tuple[float, float]:
    """Milliseconds between packets that came after a moment: 99th percentile and the longest."""
    arrived = [packet.arrived for packet in voice.ordered() if packet.arrived >= since]
    between = np.diff(np.sort(np.array(arrived))) * 1000
    return (float(np.quantile(between, 0.99)), float(between.max())) if len(between) else (0.0, 0.0)


async def dial(house: House, seen: Seen) -> None:
    """One honest call, hung up at once."""
    began = time.monotonic()
    async with Dialog(house.uri, DIALLER) as dialog:
        try:
            async with asyncio.timeout(DIAL_S):
                await dialog.invite(offer(DIALLER, 40_000, 40_002))
            seen.answered_s.append(time.monotonic() - began)
        except CallFailed as error:
            seen.refused[str(error).rpartition("call: ")[2]] += 1
        except TimeoutError:
            seen.refused[f"no answer in {DIAL_S:g} s"] += 1


async def every(seconds: float, what: Callable[[], Awaitable[None]]) -> None:
    """Do it again and again, at that pace where it can be kept."""
    while True:
        next_at = time.monotonic() + seconds
        await what()
        await asyncio.sleep(max(0.0, next_at - time.monotonic()))


async def endure(house: House, phone: Phone, flood: Flood) -> Seen:
    """One flood, or the loop, from its first to its last datagram."""
    seen, began = Seen(), time.monotonic()

    async def look() -> None:
        seen.lines.append((time.monotonic() - began, await gauge(house.api, "visavis_calls_active")))

    order = json.dumps(vars(flood))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.admission_attack", "--child", str(house.sip_port), order),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    watching = [
        asyncio.create_task(every(0.5, look)),
        asyncio.create_task(every(1.0, lambda: dial(house, seen))),
    ]
    try:
        async with asyncio.timeout(flood.seconds + 30):
            seen.generator = json.loads(await process.stdout.readline())
            await process.wait()
    finally:
        for task in watching:
            task.cancel()
        await asyncio.gather(*watching, return_exceptions=True)
        with contextlib.suppress(ProcessLookupError):
            process.kill()
    seen.gaps_ms = gaps(phone.recording.audio, began)
    return seen


def tell(flood: Flood, seen: Seen, lines: int) -> None:
    """Print what was seen."""
    counts = [count for _, count in seen.lines]
    series = " ".join(f"{at:.0f}s:{count:.0f}" for at, count in seen.lines[:: max(1, len(seen.lines) // 18)])
    fast = sum(s <= 1.0 for s in seen.answered_s)
    dials = len(seen.answered_s) + seen.refused.total()
    worst = f"{1000 * max(seen.answered_s):.0f} ms at worst" if seen.answered_s else "never"
    sent, core = seen.generator["sent"], 100 * seen.generator["cpu"]
    print(f"== {flood.name}: {sent:.0f} datagrams, generator {core:.0f} % of a core")
    print(f"   lines in use: {max(counts):.0f} of {lines} at most; {series}")
    print(
        f"   honest dialler: {len(seen.answered_s)} of {dials} answered ({fast} within 1 s, {worst}) "
        f"{dict(seen.refused) or ''}"
    )
    print(f"   honest voice: gaps p99 {seen.gaps_ms[0]:.1f} ms, longest {seen.gaps_ms[1]:.1f} ms", flush=True)


async def quiet(house: House, within_s: float = 40.0) -> None:
    """Until the honest call is alone again."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and await gauge(house.api, "visavis_calls_active") > 1:  # noqa: ASYNC110
        await asyncio.sleep(0.5)


async def attack(options: argparse.Namespace) -> bool:
    """Whether the honest dialler was always answered within a second, and the voice kept beside the flood."""
    low = free_ports(4 * options.lines + 40)
    settings: dict[str, Any] = {"max_calls": options.lines, "rtp_port_min": low}
    settings["rtp_timeout_s"] = 10.0  # what the flood leaves behind is soon gone
    settings["rtp_port_max"] = low + 4 * options.lines + 39
    if "sip_proxies" in Settings.model_fields:
        settings["sip_proxies"] = ""  # or the loopback would be exempt
    floods = [
        Flood("100 at once", burst=100, seconds=options.watch),
        Flood("3.3 a second", rate=3.3, seconds=options.watch + 9),
        Flood("20 a second, acknowledged", rate=20.0, seconds=options.seconds, acks=True),
        Flood("1 000 a second", rate=1000.0, seconds=options.seconds),
    ]
    good = True
    async with (
        inference_server(max_sessions=options.lines) as server,
        orchestrator([server], **settings) as house,
        Phone(house.uri, local=HONEST) as phone,
    ):
        await house.idle_cached(await house.call_id())
        for flood in floods:
            seen = await endure(house, phone, flood)
            tell(flood, seen, options.lines)
            good &= not seen.refused and all(s <= 1.0 for s in seen.answered_s)
            await quiet(house)
        loop = Flood("a busy loop", seconds=options.seconds, busy=seen.generator["cpu"])
        beside = await endure(house, phone, loop)
        tell(loop, beside, options.lines)
    worse = seen.gaps_ms[0] - beside.gaps_ms[0]
    print(f"voice p99 beside 1 000 a second: {worse:+.1f} ms against the busy loop")
    return good and worse <= 5.0


def main() -> None:
    """Exit status 1 where an honest caller was refused or late, or the voice suffered."""
    if sys.argv[1:2] == ["--child"]:
        flood = Flood(**json.loads(sys.argv[3]))
        burn(flood) if flood.busy else generate(int(sys.argv[2]), flood)
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lines", type=int, default=100, help="calls at once that the orchestrator allows")
    parser.add_argument("--seconds", type=float, default=12.0, help="of the quickest flood and of the loop")
    parser.add_argument("--watch", type=float, default=36.0, help="seconds of each of the other two")
    raise SystemExit(0 if asyncio.run(attack(parser.parse_args())) else 1)


if __name__ == "__main__":
    main()
