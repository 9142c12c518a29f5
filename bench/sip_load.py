"""SIP set-up and tear-down under load, by SIPp: `python -m bench.sip_load --rate 30 --seconds 60`.

SIPp (the caller) sends INVITE with audio and video, ACK, holds the call, BYE; a stack of ours in a process of
its own answers, or with ``--whole`` the orchestrator and its media workers. What is printed: calls failed as
SIPp counts them, answer time as SIPp measures it, CPU per call and memory before and after of what answers, and
what is left behind in it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import resource
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from statistics import median
from typing import Any

from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.handler import BaseHandler
from orchestrator.sip.sdp.capabilities import AudioCapabilities, MediaCapabilities, VideoCapabilities
from orchestrator.sip.stack import SipStack
from testing.ports import free_port, free_ports
from testing.processes import Process, family, gauge
from tests.support.house import orchestrator
from tests.support.servers import inference_server

AT_ONCE = 1000
"""Calls that the whole orchestrator is told to allow."""
SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1"?>
<scenario name="load">
<send retrans="500" start_rtd="1"><![CDATA[
INVITE sip:anna@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:load@[local_ip]:[local_port]>;tag=[pid]t[call_number]
To: <sip:anna@[remote_ip]:[remote_port]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:load@[local_ip]:[local_port];transport=[transport]>
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 [local_ip]
s=-
c=IN IP4 [local_ip]
t=0 0
m=audio 6000 RTP/AVP 0 8 101
a=rtpmap:101 telephone-event/8000
m=video 6002 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;profile-level-id=42e01f
a=rtcp-fb:* nack pli
]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="200" rtd="1" rrs="true"/>
<send><![CDATA[
ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:load@[local_ip]:[local_port]>;tag=[pid]t[call_number]
To: <sip:anna@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 1 ACK
Content-Length: 0

]]></send>
<pause milliseconds="{hold}"/>
<send retrans="500" start_rtd="2"><![CDATA[
BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch];rport
Max-Forwards: 70
From: <sip:load@[local_ip]:[local_port]>;tag=[pid]t[call_number]
To: <sip:anna@[remote_ip]:[remote_port]>[peer_tag_param]
Call-ID: [call_id]
CSeq: 2 BYE
Content-Length: 0

]]></send>
<recv response="200" rtd="2"/>
</scenario>
"""


class Answering(BaseHandler):
    async def on_invite(self, call: IncomingCall) -> None:
        call.ring()
        call.answer(MediaCapabilities(call.local_host, AudioCapabilities(4000), VideoCapabilities(4002)))


def memory_kib() -> int:
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")))


async def serve(transport: str) -> None:
    """The stack's process: says its port, then its figures for each line on stdin."""
    listen = {"u1": "udp", "t1": "tcp"}[transport]
    addresses: dict[str, tuple[str, ...]] = {"udp": (), "tcp": (), listen: ("127.0.0.1:0",)}
    stack = SipStack(SipConfig(udp=addresses["udp"], tcp=addresses["tcp"], max_calls=5000,
                               max_calls_per_source=5000, messages_per_second=1e6, invites_per_second=1e6),
                     Answering())  # fmt: skip
    await stack.start()
    print(stack.addresses[listen.upper()][0][1], flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        figures = {
            "rss_kib": memory_kib(),
            "cpu_s": usage.ru_utime + usage.ru_stime,
            "calls": len(stack.calls),
            "transactions": len(stack.agent.transactions),
            "tasks": len(asyncio.all_tasks()),
        }
        print(json.dumps(figures), flush=True)
    await stack.close()


Ask = Callable[[], Awaitable[dict[str, float]]]
"""Figures of what answers: ``rss_kib``, ``cpu_s``, and what there is of things that calls leave behind."""


@contextlib.asynccontextmanager
async def bare_stack(transport: str) -> AsyncIterator[tuple[int, Ask]]:
    """The SIP stack alone, in a process of its own: its port and figures."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "bench.sip_load", "--serve", transport,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    pipe, answers = process.stdin, process.stdout

    async def ask() -> dict[str, float]:
        pipe.write(b"\n")
        figures: dict[str, float] = json.loads(await answers.readline())
        return figures

    yield int(await answers.readline()), ask
    pipe.close()
    await process.wait()


@contextlib.asynccontextmanager
async def whole(calls_at_once: int) -> AsyncIterator[tuple[int, Ask]]:
    """The orchestrator with its media workers, and an inference server."""
    low = free_ports(4 * calls_at_once)
    ports: dict[str, Any] = {"rtp_port_min": low, "rtp_port_max": low + 4 * calls_at_once - 1}
    async with (
        inference_server(max_sessions=calls_at_once) as server,
        orchestrator([server], max_calls=calls_at_once, **ports) as house,
    ):

        async def ask() -> dict[str, float]:
            seen = [Process.read(pid) for pid in family(house.process.pid)]
            return {
                "rss_kib": sum(process.rss_kib for process in seen),
                "cpu_s": sum(process.cpu_s for process in seen),
                "calls": await gauge(house.api, "visavis_calls_active"),
                "port pairs": await gauge(house.api, "visavis_media_ports"),
                "open files": sum(process.files for process in seen),
            }

        yield house.sip_port, ask


async def sipp(port: int, options: argparse.Namespace, calls: int, folder: Path) -> dict[str, str]:
    (folder / "load.xml").write_text(SCENARIO.replace("{hold}", str(options.hold)))
    process = await asyncio.create_subprocess_exec(
        "sipp", "-sf", "load.xml", f"127.0.0.1:{port}", "-i", "127.0.0.1", "-p", str(free_port()),
        "-t", options.transport, "-r", str(options.rate), "-m", str(calls), "-l", "5000", "-nostdin",
        "-trace_stat", "-stf", "stat.csv", "-fd", "5", "-trace_err", "-error_file", "errors", cwd=folder,
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    await process.wait()
    with (folder / "stat.csv").open(newline="") as file:
        return list(csv.DictReader(file, delimiter=";"))[-1]


async def load(options: argparse.Namespace) -> int:
    if shutil.which("sipp") is None:
        print("sipp is missing: apt-get install sip-tester")
        return 1
    answering = whole(AT_ONCE) if options.whole else bare_stack(options.transport)
    async with answering as (port, ask):
        with tempfile.TemporaryDirectory() as folder:
            calls = options.rate * options.seconds
            before = await ask()
            running = asyncio.create_task(sipp(port, options, calls, Path(folder)))
            samples: list[float] = []
            while not running.done():
                await asyncio.wait({running}, timeout=10)
                samples.append((await ask())["rss_kib"])
            result = running.result()
            await asyncio.sleep(options.settle)
            after = await ask()
    # Transactions wait out their timers for 32 s: from then on as many come as go.
    steady = samples[6:] or samples
    half = len(steady) // 2 or 1
    first, last = median(steady[:half]), median(steady[-half:])
    growth = 100 * (last - first) / first
    cpu = 1000 * (after["cpu_s"] - before["cpu_s"]) / calls
    print(f"{calls} calls at {options.rate}/s over {options.transport}, held {options.hold} ms: "
          f"{result['SuccessfulCall(C)']} succeeded, {result['FailedCall(C)']} failed, "
          f"{result['Retransmissions(C)']} messages sent again by SIPp")  # fmt: skip
    print(
        f"INVITE to 200 {result['ResponseTime1(C)']} on average, BYE to 200 {result['ResponseTime2(C)']} (h:m:s:us)"
    )
    print(f"CPU {cpu:.2f} ms per call; RSS in KiB {before['rss_kib']:.0f} first, under load "
          f"after a minute {first:.0f} (median of the first half) and {last:.0f} (second, {growth:+.1f} %), "
          f"{max(samples):.0f} at most, {after['rss_kib']:.0f} at the end")  # fmt: skip
    left = {name: value for name, value in after.items() if name not in ("rss_kib", "cpu_s")}
    print("left: " + ", ".join(f"{v:.0f} {name} ({before[name]:.0f} before)" for name, v in left.items()))
    return 0 if result["FailedCall(C)"] == "0" else 1


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=30, help="calls a second")
    parser.add_argument("--seconds", type=int, default=60, help="how long calls are started")
    parser.add_argument("--whole", action="store_true", help="call the orchestrator with its media (UDP)")
    parser.add_argument("--hold", type=int, default=1000, help="ms between ACK and BYE")
    parser.add_argument("--transport", choices=("u1", "t1"), default="u1", help="UDP or TCP")
    parser.add_argument(
        "--settle", type=float, default=34.0, help="s for timers to run out before leaks are looked for"
    )
    parser.add_argument("--serve", choices=("u1", "t1"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.serve))
        return
    sys.exit(asyncio.run(load(options)))


if __name__ == "__main__":
    main()
