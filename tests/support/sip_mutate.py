"""Mutated SIP and SDP: what a hostile or broken peer might send, from a corpus and a seed.

`python -m tests.support.sip_mutate --count 2000000` runs long; the test runs a short share of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import random
import resource
import time
from collections.abc import Iterator
from pathlib import Path

from orchestrator.sip.agent.authentication import Challenger, Credentials
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.message import Request
from orchestrator.sip.message.parsing import MalformedMessage, parse_message
from orchestrator.sip.sdp.capabilities import NotAcceptable
from orchestrator.sip.sdp.description import SdpError
from orchestrator.sip.sdp.session import SdpSession
from orchestrator.sip.transport.framing import Framer, FramingError
from tests.support import fuzz
from tests.support.sip_fake import AUDIO, VIDEO, Recorder, Wire, capabilities, request, sdp

TORTURE = Path(__file__).parent.parent / "sip" / "rfc4475"
INTERESTING = [
    b"\r\n", b"\r\n\r\n", b"\0", b"\xff", b";", b",", b"<", b">", b'"', b":", b"=", b"@", b"%00", b"[", b"]", b" ",
    b"\t", b"9" * 40, b"-1", b"0", b"4294967296", b"SIP/2.0", b"z9hG4bK", b"a" * 3000, b"Via:", b"l: 5", b"\r\n ",
    b"Content-Length: 99999999\r\n", b"Require: x\r\n", b"IN IP4 0.0.0.0", b"m=audio 0 RTP/AVP 0\r\n",
    b"a=sendonly\r\n",
    b"\xed\xa0\x80", b"\xc3\x28", "\u202e".encode(), b"tag=", b"Session-Expires: 1\r\n", b"RAck: 1 1 INVITE\r\n",
]  # fmt: skip


CHALLENGER = Challenger("visavis", {"a": "b"}, lambda: 0.0)


def corpus() -> list[bytes]:
    """Well-formed messages of every method we know, responses, and RFC 4475."""
    offer = sdp(AUDIO, VIDEO)
    made = [
        request("INVITE", body=offer, headers="Supported: timer, 100rel\nSession-Expires: 300;refresher=uac")
    ]
    made += [request(method, to_tag="t") for method in ("BYE", "ACK", "PRACK", "UPDATE", "REFER", "NOTIFY")]
    made += [request(method) for method in ("OPTIONS", "CANCEL", "REGISTER", "SUBSCRIBE", "MESSAGE")]
    made += [
        request("INFO", to_tag="t", body="Signal=5\nDuration=100\n", content_type="application/dtmf-relay")
    ]
    made += [
        request(
            "INVITE", body=offer, headers='Authorization: Digest username="a", realm="visavis", nonce="1.2"'
        )
    ]
    texts = [text.replace("\r\n", "\n").replace("\n", "\r\n").encode() for text in made]
    return texts + [path.read_bytes() for path in sorted(TORTURE.glob("*.dat"))]


def mutate(source: bytes, other: bytes, rng: random.Random) -> bytes:
    """A few edits: bytes flipped, pieces cut, doubled, moved, joined with another message, tokens put in."""
    data = bytearray(source)
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        at = rng.randrange(len(data) + 1)
        kind = rng.randrange(8)
        if kind == 0 and data:
            data[at % len(data)] = rng.randrange(256)
        elif kind == 1:
            data[at:at] = rng.choice(INTERESTING)
        elif kind == 2:
            del data[at : at + rng.choice((1, 2, 8, 60, 400))]
        elif kind == 3:
            data[at:at] = data[at : at + rng.choice((1, 4, 40, 300))]
        elif kind == 4:
            start = rng.randrange(len(other) + 1)
            data[at:at] = other[start : start + rng.choice((4, 40, 400))]
        elif kind == 5:
            lines = bytes(data).split(b"\r\n")
            rng.shuffle(lines)
            data = bytearray(b"\r\n".join(lines))
        elif kind == 6:
            data = data[:at]
        elif data:
            width = rng.choice((1, 3, 10))
            data[at : at + width] = rng.choice(INTERESTING)
    return bytes(data[:65_000])


def mutants(count: int, seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    seeds = corpus()
    for _ in range(count):
        yield mutate(rng.choice(seeds), rng.choice(seeds), rng)


def parse_everything(data: bytes) -> None:
    """Every parser on one input: only their own errors may come out."""
    for stream in (False, True):
        with contextlib.suppress(MalformedMessage):
            message = parse_message(data, stream=stream)
            bytes(message)
            if isinstance(message, Request):
                CHALLENGER.check(message, "127.0.0.9")
            else:
                Credentials("a", "b").answer(Request(method="INVITE", uri="sip:a@b"), message)
    with contextlib.suppress(FramingError):
        Framer().feed(data)
    body = data.partition(b"\r\n\r\n")[2] or data
    with contextlib.suppress(SdpError, NotAcceptable):
        SdpSession().answer(body, capabilities())


def guided(count: int, seed: int, *, report: bool = False) -> tuple[list[bytes], int]:
    """Mutate what reached new lines of the parsers: the inputs that did, and the line-to-line steps seen."""
    return fuzz.guided(parse_everything, corpus(), mutate, "orchestrator/sip", count, seed, report=report)


async def run(count: int, seed: int, *, report: bool = False) -> tuple[list[str], Wire]:
    """Feed an agent on a fake clock; returns what escaped inside, and the wire with everything timed out."""
    escapes = fuzz.Escapes()
    log = logging.getLogger("orchestrator.sip")
    log.addHandler(escapes)
    fast = SipConfig(messages_per_second=1e9, invites_per_second=1e9, max_calls=50, trusted=("127.0.0.0/8",))

    def answer(call: IncomingCall) -> None:
        call.ring()
        call.answer(capabilities())

    wire = Wire(Recorder(on_call=answer), fast)
    began = time.monotonic()
    try:
        for number, data in enumerate(mutants(count, seed)):
            parse_everything(data)
            wire.agent.receive(data, wire.flow, stream=number % 7 == 0)
            if number % 64 == 0:
                for _ in range(4):
                    await asyncio.sleep(0)
                wire.clock.advance(2.0)
                wire.sent.clear()
                wire.handler.events.clear()
                wire.handler.calls.clear()
                wire.handler.media.clear()
            if report and number % 100_000 == 0:
                rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
                print(f"{number} messages, {time.monotonic() - began:.0f} s, peak {rss} MiB", flush=True)
        for _ in range(80):
            wire.clock.advance(5.0)
            for _ in range(10):
                await asyncio.sleep(0)
            for call in list(wire.agent.calls.values()):
                call.shut_down()
    finally:
        log.removeHandler(escapes)
    return escapes.records, wire


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--guided", action="store_true", help="guided by coverage, parsers only")
    arguments = parser.parse_args()
    if arguments.guided:
        found, steps = guided(arguments.count, arguments.seed, report=True)
        print(
            f"{arguments.count} inputs guided by coverage: {len(found)} in the corpus, {steps} steps, 0 escaped"
        )
        return
    records, wire = asyncio.run(run(arguments.count, arguments.seed, report=True))
    left = (len(wire.agent.transactions), len(wire.agent.calls), wire.clock.pending)
    print(f"{arguments.count} messages, {len(records)} escaped; left (transactions, calls, timers): {left}")
    for text in records[:5]:
        print(text)


if __name__ == "__main__":
    main()
