"""Mutated RTP and RTCP: what a hostile or broken peer might send, at the parsers and at a running call.

`python -m tests.support.rtp_mutate --count 2000000` runs long; the tests run a short share of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import logging
import multiprocessing
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import MediaSession
from orchestrator.rtp import h264, packet, rtcp
from orchestrator.rtp.agreed import SrtpKeys
from orchestrator.rtp.codecs import G711
from orchestrator.rtp.dtmf import DtmfReceiver, event_payloads
from orchestrator.rtp.jitter import JitterBuffer
from orchestrator.rtp.packet import MalformedPacket
from orchestrator.rtp.srtp import Protection
from orchestrator.rtp.stats import Reception
from orchestrator.worker.host import HostSettings, MediaHost
from testing.h264 import Depacketizer
from testing.loop_face import LoopFace
from tests.support import fuzz
from tests.support.media import Phone, card_body

EVENT, VIDEO = 101, 96
_SOCKETS = ("audio", "video", "video_rtcp")
INTERESTING = [
    b"\0", b"\xff", b"\x80", b"\x7f\xff", b"\xff\xff", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\1", b"REMB",
    bytes((0x80, 200, 0, 6)), bytes((0x81, 206, 0, 2)), bytes((0x81, 205, 0, 3)), bytes(1400),
]  # fmt: skip
KEYS = SrtpKeys("AES_CM_128_HMAC_SHA1_80", bytes(range(30)), bytes(range(1, 31)))


def corpus(ssrc: int = 5) -> list[bytes]:
    """Well-formed RTP and RTCP of every kind we read; ``ssrc`` is the stream that feedback is about."""
    rtp = [packet.RtpPacket(0, 7, 1120, 9, bytes(160), True), packet.RtpPacket(13, 8, 1280, 9, b"\x28\x10")]
    rtp += [
        packet.RtpPacket(EVENT, 9, 1440, 9, payload, marker)
        for marker, payload in event_payloads("5", 480, 160)
    ]
    nal = bytes((0x67, 66, 0xC0, 30))
    for payload in h264.packetize([nal, b"\x68\xce", b"\x65" + bytes(2500)]):
        rtp.append(packet.RtpPacket(VIDEO, 10, 3000, 9, payload))
    plain = [packet.build(each) for each in rtp]
    with_extension = (
        bytes((0x92,)) + plain[0][1:12] + bytes(8) + bytes.fromhex("bede0001 10ff0000") + bytes(160)
    )
    padded = bytes((0xA0,)) + plain[0][1:] + bytes((0, 0, 0, 4))
    block = rtcp.ReportBlock(ssrc, 20, -3, 70_000, 55, 0x12345678, 99)
    report = rtcp.ReceiverReport(9, (block,))
    compounds: list[tuple[rtcp.RtcpPacket, ...]] = [
        (rtcp.SenderReport(9, 1 << 63, 1, 2, 3, (block,)), rtcp.SourceDescription(9, "phone@example")),
        (report, rtcp.Goodbye((9,), "over")),
        (report, rtcp.PictureLoss(9, ssrc)),
        (rtcp.PictureLoss(9, 9, legacy=True),),
        (report, rtcp.FullIntra(9, ssrc, 3)),
        (report, rtcp.Nack(9, ssrc, (1, 2, 300))),
        (report, rtcp.BitrateLimit(9, 300_000, (ssrc,))),
        (report, rtcp.BitrateLimit(9, 300_000, (ssrc,), temporary=True), rtcp.BitrateNotice(9, 5, ssrc)),
    ]
    app = bytes((0x80, rtcp.APP, 0, 3)) + bytes(8) + b"name"
    extended = bytes((0x80, rtcp.XR, 0, 2, 0, 0, 0, 9, 7, 0, 0, 0))
    return [*plain, with_extension, padded, *(rtcp.build(*each) for each in compounds), app, extended]


def mutate(source: bytes, other: bytes, rng: random.Random) -> bytes:
    """A few edits: bytes and bits flipped, pieces cut, doubled, joined with another datagram, numbers put in."""
    data = bytearray(source)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1 and data:
            data[at % min(len(data), 16)] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at : at + rng.choice((1, 2, 4, 60))]
        elif kind == 3:
            data[at:at] = data[at : at + rng.choice((1, 4, 40))]
        elif kind == 4:
            data += other
        elif kind == 5:
            data = data[:at]
        else:
            piece = rng.choice(INTERESTING)
            data[at : at + len(piece)] = piece
    return bytes(data[:1500])


def mutants(count: int, seed: int, ssrc: int = 5) -> Iterator[bytes]:
    """As many datagrams; the same ones for the same seed."""
    rng = random.Random(seed)
    seeds = corpus(ssrc)
    for _ in range(count):
        yield mutate(rng.choice(seeds), rng.choice(seeds), rng)


class Readers:
    """Everything that reads what a peer sends, with the state that lasts over a call."""

    def __init__(self) -> None:
        self._codec = G711("PCMU")
        self._buffer = JitterBuffer(self._codec)
        self._reception = Reception(8000)
        self._digits = DtmfReceiver()
        self._pictures = Depacketizer()
        self._protection = Protection(KEYS)

    def read(self, data: bytes) -> None:
        """One datagram to each of them: only ``MalformedPacket`` may come out of a parser, and is caught."""
        with contextlib.suppress(MalformedPacket):
            found = rtcp.parse(data)
            rtcp.parse(rtcp.build(*found))
        self._protection.unprotect(data)
        self._protection.unprotect_rtcp(data)
        with contextlib.suppress(MalformedPacket):
            head = packet.parse_header(data)
            payload = data[head.start : head.end]
            self._reception.received(head.ssrc, head.sequence, head.timestamp, time.monotonic())
            self._reception.report(time.monotonic())
            self._digits.push(head, payload, time.monotonic())
            self._pictures.push(head.sequence, head.timestamp, head.marker, payload)
            self._buffer.push(head.ssrc, head.timestamp, payload)
            self._buffer.push_noise(head.ssrc, head.timestamp, payload[:2])
            self._buffer.pop()


def guided(count: int, seed: int, *, report: bool = False) -> tuple[list[bytes], int]:
    """The readers, guided by coverage: the inputs that reached new lines, and the line-to-line steps seen."""
    return fuzz.guided(Readers().read, corpus(), mutate, "orchestrator/rtp", count, seed, report=report)


class _Listener:
    """A caller's words are wanted, so that everything is decoded."""

    listens = True

    def heard(self, pcm: object, sent: object, rate: int) -> None:
        pass

    def digit(self, digit: str, milliseconds: int) -> None:
        pass


@dataclass(frozen=True)
class Outcome:
    """What became of running calls under fire, and of another call beside them.

    That one's media time: so many packets were due, sent, and skipped where a busy machine came too late for them;
    ``bystander_after``: packets that it sent in the half second after the fire.
    """

    sent: int
    seen: int
    escaped: list[str]
    ports_left: int
    bystander_sent: int
    bystander_due: int
    bystander_skipped: int
    bystander_after: int
    rss_kib: tuple[int, int]
    """Resident memory after a fifth, and at the end."""


def _fire(pipe: Connection, count: int, seed: int, calls: int, per_second: int) -> None:
    """The phones' process: tells their ports, is told the calls', sends mutants to them at an even rate."""
    phones = [Phone() for _ in range(calls + 1)]  # the last one says nothing
    pipe.send([{name: phone.address(name) for name in _SOCKETS} for phone in phones])
    calls_at = pipe.recv()
    rng = random.Random(seed)
    streams = [mutants(count, seed + number, ssrc) for number, (*_, ssrc) in enumerate(calls_at)]
    began = time.monotonic()
    for number in range(count):
        at = number % calls
        audio, video, _ = calls_at[at]
        name, port = rng.choice((("audio", audio), ("video", video), ("video_rtcp", video + 1)))
        with contextlib.suppress(OSError):  # the call's buffer is full, or an empty datagram
            getattr(phones[at], name).sendto(next(streams[at]), ("127.0.0.1", port))
        if number % 32 == 0:
            for phone in phones:
                for each in _SOCKETS:
                    phone.drain(each)
            time.sleep(max(0.0, began + number / per_second - time.monotonic()))
    pipe.send("done")
    for phone in phones:
        phone.close()


def _call(host: MediaHost, phone: dict[str, tuple[str, int]], keys: SrtpKeys | None) -> MediaSession:
    """A call with the phone at these addresses, which may send anything that we know."""
    session = host.session(face=LoopFace(card_body(25)), hearing=_Listener())
    feedback = frozenset({"nack", "nack pli", "ccm fir", "ccm tmmbr", "goog-remb"})
    session.update(
        AudioParameters("PCMU", 0, phone["audio"], None, EVENT, rtcp_mux=True, keys=keys, voip_metrics=True),
        VideoParameters(
            VIDEO, phone["video"], 192, 128, feedback=feedback, remote_rtcp=phone["video_rtcp"], keys=keys
        ),
    )
    session.start()
    return session


def _count_reads(host: MediaHost) -> Callable[[], int]:
    """How many datagrams the sockets that are opened from now on have read."""
    add, taken = host.poller.add, itertools.count()

    def counted(fd: int, reader: Callable[[float], None]) -> None:
        add(fd, lambda now: (next(taken), reader(now))[1])

    host.poller.add = counted
    return lambda: next(taken)


async def under_fire(
    count: int, seed: int, *, calls: int = 4, per_second: int = 5000, report: bool = False
) -> Outcome:
    """Send mutants to running calls, a quarter of them with SRTP, while another call goes on beside them."""
    escapes = fuzz.Escapes()
    log = logging.getLogger("orchestrator")
    log.addHandler(escapes)
    context = multiprocessing.get_context("spawn")
    pipe, theirs = context.Pipe()
    firing = context.Process(target=_fire, args=(theirs, count, seed, calls, per_second))
    firing.start()
    host = MediaHost(HostSettings())
    host.start()
    taken = _count_reads(host)
    phones = await asyncio.to_thread(pipe.recv)
    *targets, bystander = [
        _call(host, phone, KEYS if number % 4 == 3 else None) for number, phone in enumerate(phones)
    ]
    began, early = time.monotonic(), memory_kib()
    try:
        pipe.send(
            [(call.audio_port, call.video_port, call.video.reports.ssrc) for call in targets if call.video]
        )
        due = count / per_second
        while not pipe.poll():
            assert firing.is_alive(), "the phones' process has ended"
            await asyncio.sleep(min(10.0, due / 10))
            if time.monotonic() - began < due / 5:
                early = memory_kib()
            if report:
                print(f"{time.monotonic() - began:.0f} s, {memory_kib() // 1024} MiB", flush=True)
        stats = bystander.stats(time.monotonic())
        await asyncio.sleep(0.5)
        after = bystander.stats(time.monotonic())
    finally:
        for call in (*targets, bystander):
            call.stop()
        log.removeHandler(escapes)
        left = host.ports.in_use
        await host.close()
        await asyncio.to_thread(firing.join)
    sent, expected = stats.audio.sent_packets, int(stats.seconds * 50)
    told = (sent, expected, stats.audio_skipped, after.audio.sent_packets - sent)
    return Outcome(count, taken(), escapes.records, left, *told, (early, memory_kib()))


def memory_kib() -> int:
    """Resident memory of this process."""
    text = Path("/proc/self/status").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("VmRSS")))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--count", type=int, default=100_000, help="half at the parsers, half at running calls"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    half = options.count // 2
    found, steps = guided(half, options.seed, report=True)
    print(
        f"{half} inputs guided by coverage: {len(found)} in the corpus, {steps} steps, 0 escaped", flush=True
    )
    outcome = asyncio.run(
        under_fire(options.count - half, options.seed, calls=8, per_second=8000, report=True)
    )
    first, last = outcome.rss_kib
    print(
        f"{outcome.sent} datagrams at running calls, {outcome.seen} read by them: {len(outcome.escaped)} escaped; "
        f"RSS {first} KiB after a fifth, {last} at the end; {outcome.ports_left} ports left; "
        f"the call beside them sent {outcome.bystander_sent} of {outcome.bystander_due} audio packets"
    )
    for text in outcome.escaped[:5]:
        print(text)


if __name__ == "__main__":
    main()
