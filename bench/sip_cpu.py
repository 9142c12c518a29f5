"""CPU of one SIP message, by kind, legal and hostile: ``python -m bench.sip_cpu``

Each kind of message is brought to a user agent of its own as often as ``--times`` says: through framing where it
comes over a connection, parsing, admission, the transaction and the dialog, to the answer, offer and answer
included; setting up media is left out. Hostile ones are as large as is taken: 8 KiB in a datagram, a head of
16 KiB and a body of 256 KiB over a connection. Sockets are left out, time does not pass, and the dialog's owner
does nothing but answer. Prints the last answer, and median, p99 and worst of the thread's CPU in milliseconds, less
that of empty rounds of the loop; the exit status says whether every p99 is at most ``--limit``.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import itertools
import logging
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from orchestrator.sip.agent.digest import digest_response
from orchestrator.sip.config import SipConfig
from orchestrator.sip.message.parsing import MAX_DATAGRAM, MAX_HEAD
from orchestrator.sip.sdp.description import MAX_ATTRIBUTES
from orchestrator.sip.transport.framing import MAX_BODY, Framer, FramingError
from tests.support.sip_fake import AUDIO, PEER, VIDEO, Recorder, Wire, established, request, sdp
from tests.support.sip_mutate import mutants

DATAGRAM, HEAD = MAX_DATAGRAM - 100, MAX_HEAD - 100
ROUNDS = 12
"""Rounds of the loop that a message is given, so that the tasks it starts have run."""
QUIET = SipConfig(messages_per_second=1e9, invites_per_second=1e9, trace_messages=0)
PASSWORDS = SipConfig(messages_per_second=1e9, invites_per_second=1e9, users={"anna": "secret"}, trusted=())
OFFER = sdp(AUDIO, VIDEO)
Fill = Callable[[int], str]


@dataclass(frozen=True)
class Kind:
    """``make`` gives the message of a number. ``dialog``: of a call that stands; ``stream``: over TCP."""

    name: str
    make: Callable[[int, str], str | bytes]
    dialog: bool = False
    stream: bool = False
    config: SipConfig = QUIET


def filled(make: Callable[[str], str], unit: str, size: int) -> str:
    """A message with as many of ``unit`` as there is room for."""
    if not unit:
        return make("")
    room = size - len(wire(make("")))
    return make(unit * max(0, room // len(wire(unit))))


def wire(text: str | bytes) -> bytes:
    """As it travels."""
    return text if isinstance(text, bytes) else text.replace("\r\n", "\n").replace("\n", "\r\n").encode()


def ids(number: int) -> dict[str, Any]:
    """What makes it a message of its own."""
    return {"branch": f"z9hG4bKb{number}", "call_id": f"b{number}", "from_tag": f"f{number}"}


def invite(headers: str = "", unit: str = "", before: str = "", after: str = "", size: int = DATAGRAM) -> Any:
    """A new call with one header filled up: ``before``, as many of ``unit`` as fit, ``after``."""

    def make(number: int, tag: str) -> str:
        return filled(
            lambda fill: request(
                "INVITE", body=OFFER, headers=f"{headers}\n{before}{fill}{after}", **ids(number)
            ),
            unit,
            size,
        )

    return make


def offered(*media: str, session: str = "", unit: str = "", stream: bool = False) -> Any:
    """A new call whose description is filled up with ``unit``."""

    def make(number: int, tag: str) -> str:
        return filled(
            lambda fill: request(
                "INVITE", body=sdp(*media, *([fill] if unit else []), session=session), **ids(number)
            ),
            unit,
            HEAD if stream else DATAGRAM,
        )

    return make


def within(method: str, *, body: str = "", unit: str = "", size: int = DATAGRAM, **more: Any) -> Any:
    """A request inside the call, its body filled up with ``unit``."""

    def make(number: int, tag: str) -> str:
        def one(fill: str) -> str:
            branch = f"z9hG4bKd{number}"
            seq = 10 + number
            return request(method, branch=branch, seq=seq, to_tag=tag, body=body + fill, **more)

        return filled(one, unit, size) if unit else one("")

    return make


def in_place(old: str, new: str, unit: str, size: int = DATAGRAM) -> Any:
    """A new call in which ``old`` reads ``new``, with as many of ``unit`` in the place of ``@@`` as fit."""

    def make(number: int, tag: str) -> str:
        text = request("INVITE", body=OFFER, **ids(number))
        assert old in text, old
        text = text.replace(old, new, 1)
        room = size - len(wire(text))
        return text.replace("@@", unit * (room // len(wire(unit))), 1)

    return make


def answered(number: int, tag: str) -> str:
    """An INVITE with a password, which is right but for its nonce."""
    asked = {"username": "anna", "realm": "visavis", "nonce": f"1.{number}", "uri": "sip:anna@127.0.0.1"}
    asked |= {"qop": "auth", "nc": "00000001", "cnonce": "c", "algorithm": "SHA-256"}
    asked["response"] = digest_response(asked, "secret", "INVITE") or ""
    text = ", ".join(
        f'{name}="{value}"' if name not in ("qop", "nc") else f"{name}={value}"
        for name, value in asked.items()
    )
    return request("INVITE", body=OFFER, headers=f"Authorization: Digest {text}", **ids(number))


def multipart(depth: int, parts: int, size: int) -> Any:
    """A body of parts in parts."""

    def make(number: int, tag: str) -> str:
        body = "x"
        for level in range(depth):
            kind = f"multipart/mixed;boundary=b{level - 1}" if level else "text/plain"
            piece = f"--b{level}\nContent-Type: {kind}\n\n{body}\n"
            body = piece * (parts if level == depth - 1 else 1) + f"--b{level}--\n"
        kind = f"multipart/mixed;boundary=b{depth - 1}"
        return filled(
            lambda fill: request("INVITE", body=body + fill, content_type=kind, **ids(number)), "--b\n", size
        )

    return make


def mutated() -> Callable[[int, str], bytes]:
    """Each time another message that was broken at random."""
    pool = list(itertools.islice((data for data in mutants(4000, 7) if len(data) <= MAX_DATAGRAM), 3000))
    return lambda number, tag: pool[number % len(pool)]


BODY = MAX_BODY - 100
ATTRIBUTES = MAX_ATTRIBUTES - 8
VIA = f"SIP/2.0/UDP {PEER[0]}:{PEER[1]};branch=z9hG4bKv"

KINDS = [
    Kind("INVITE, voice and picture", offered(AUDIO, VIDEO)),
    Kind(
        "INVITE of a browser's size, stream",
        offered(AUDIO, VIDEO + "a=candidate:1 1 udp 2122260223 10.0.0.1 50000 typ host\n" * 200),
        stream=True,
    ),
    Kind("OPTIONS", lambda number, tag: request("OPTIONS", **ids(number))),
    Kind(
        "INVITE, challenged",
        lambda number, tag: request("INVITE", body=OFFER, **ids(number)),
        config=PASSWORDS,
    ),
    Kind("INVITE, password", answered, config=PASSWORDS),
    Kind("re-INVITE", within("INVITE", body=OFFER), dialog=True),
    Kind("UPDATE", within("UPDATE", body=OFFER), dialog=True),
    Kind(
        "INFO, a key",
        within("INFO", body="Signal=5\nDuration=100\n", content_type="application/dtmf-relay"),
        dialog=True,
    ),
    Kind(
        "INFO, key frame",
        within(
            "INFO",
            body="<media_control><vc_primitive><to_encoder><picture_fast_update/>",
            content_type="application/media_control+xml",
        ),
        dialog=True,
    ),
    Kind("BYE of another dialog", within("BYE"), dialog=False),
    Kind("mutants", mutated()),
    Kind("mutants in a call", mutated(), dialog=True),
    # headers
    Kind("128 header lines", invite(headers="\n".join(f"X-{n}: {n}" for n in range(116)))),
    Kind("a header of letters", invite(before="X: ", unit="a")),
    Kind("a header of folds", invite(before="X: ", unit="a\n ")),
    Kind("lines of nothing", invite(before="X: ", unit="\r")),
    Kind("Via: blanks", in_place("127.0.0.9:5099;branch", "127.0.0.9@@:5099;branch", " ")),
    Kind("Via: blanks within", invite(before="Via: SIP/2.0/UDP h", unit=" ", after="h")),
    Kind("Via: parameters", in_place(";rport", ";rport@@", ";a=b")),
    Kind("Via: quotes", in_place(";rport", ';rport;a="@@"', "\\a")),
    Kind("Via: 69 values", invite(before="Via: " + ", ".join([VIA] * 69))),
    Kind("Via: commas", invite(before="Via: " + VIA, unit=",")),
    Kind(
        "Record-Route: 32 values",
        invite(before="Record-Route: " + ", ".join([f"<sip:p{n}@127.0.0.9;lr>" for n in range(32)])),
    ),
    Kind(
        "Record-Route: 32 long ones",
        invite(
            before="Record-Route: " + ", ".join([f"<sip:p{n}@127.0.0.9;lr{';a' * 55}>" for n in range(32)])
        ),
    ),
    Kind("Route: quotes", invite(before="Route: ", unit='"a"<sip:a@b>;c="d"')),
    Kind("Contact: commas in quotes", in_place("Contact: <", 'Contact: "@@" <', ",")),
    Kind("Contact: parameters", in_place("5099>\nContent", "5099>@@\nContent", ";a=b")),
    Kind("From: quoted pairs", in_place("From: <", 'From: "@@" <', "\\a")),
    Kind("From: an open quote", in_place("From: <", 'From: "@@ <', "a")),
    Kind("From: user of escapes", in_place("sip:peer@127.0.0.9>;tag", "sip:@@@127.0.0.9>;tag", "%ff")),
    Kind("From: parameters", in_place(";tag=f", "@@;tag=f", ';a="b"')),
    Kind("From: bidi characters", in_place("From: <", 'From: "@@" <', "\u202e" * 1)),
    Kind(
        "To: parameters of quotes",
        in_place("To: <sip:anna@127.0.0.1>", 'To: <sip:anna@127.0.0.1>;a="@@"', "\\\\"),
    ),
    Kind(
        "Request-URI: parameters",
        in_place("INVITE sip:anna@127.0.0.1 ", "INVITE sip:anna@127.0.0.1@@ ", ";a=%ff"),
    ),
    Kind("Call-ID: long", in_place("Call-ID: b", "Call-ID: @@b", "a")),
    Kind("Require: tags", invite(before="Require: a", unit=",a")),
    Kind("Supported: tags", invite(before="Supported: a", unit=",a")),
    Kind("Supported: quotes", invite(before="Supported: a", unit=',""')),
    Kind("Accept: kinds", invite(before="Accept: a/b", unit=",a/b")),
    Kind("Session-Expires: parameters", invite(before="Session-Expires: 90", unit=";a=b")),
    Kind("Content-Disposition: parameters", invite(before="Content-Disposition: a", unit=';a="b"')),
    Kind(
        "Authorization: parameters",
        invite(before="Authorization: Digest a=b", unit=',a="b"'),
        config=PASSWORDS,
    ),
    Kind(
        "Authorization: quoted pairs",
        invite(before='Authorization: Digest realm="visavis",username="', unit="\\a", after='"'),
        config=PASSWORDS,
    ),
    Kind(
        "Authorization: 90 of them",
        invite(
            headers="\n".join(['Authorization: Digest realm="visavis", username="anna", qop=auth, nc=0'] * 90)
        ),
        config=PASSWORDS,
    ),
    # bodies
    Kind("SDP: attributes", offered(AUDIO, VIDEO + "a=b\n" * ATTRIBUTES)),
    Kind("SDP: rtpmap", offered(AUDIO, VIDEO + "a=rtpmap:97 H264/90000\n" * ATTRIBUTES)),
    Kind(
        "SDP: fmtp", offered(AUDIO, VIDEO + "".join(f"a=fmtp:96 {'a=b;' * 3}\n" for n in range(ATTRIBUTES)))
    ),
    Kind("SDP: rtcp-fb", offered(AUDIO, VIDEO + "a=rtcp-fb:* nack pli\n" * ATTRIBUTES)),
    Kind(
        "SDP: crypto", offered(AUDIO + f"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{'A' * 40}\n" * 70, VIDEO)
    ),
    Kind(
        "SDP: H.264 formats",
        offered(
            AUDIO,
            "m=video 6002 RTP/AVP "
            + " ".join(map(str, range(96, 128)))
            + "\n"
            + "".join(
                f"a=rtpmap:{n} H264/90000\na=fmtp:{n} packetization-mode=1;profile-level-id=42e01f;x=y;z=1\n"
                for n in range(96, 128)
            ),
        ),
    ),
    Kind(
        "SDP: 16 m-lines of formats",
        offered(AUDIO, VIDEO, *["m=audio 6000 RTP/AVP " + "0 8 " * 100 + "\n"] * 14),
    ),
    Kind("SDP: one m-line of formats", offered(AUDIO, VIDEO, "m=video 6002 RTP/AVP " + "96 " * 2000 + "\n")),
    Kind(
        "SDP: formats with names",
        offered("m=audio 6000 RTP/AVP " + "96 " * 900 + "\n" + "a=rtpmap:96 opus/48000/2\n" * 120, VIDEO),
    ),
    Kind("SDP: bandwidths", offered(AUDIO, VIDEO, unit="b=AS:1\n")),
    Kind("SDP: empty lines", offered(AUDIO, VIDEO, unit="\n")),
    Kind("SDP: connections", offered(AUDIO, VIDEO, unit="c=IN IP6 ::1\n")),
    Kind("SDP: a bundle of names", offered(AUDIO, VIDEO, session="a=group:BUNDLE " + "x " * 3000 + "\n")),
    Kind("multipart: 60 parts", multipart(1, 60, DATAGRAM)),
    Kind("multipart: parts in parts", multipart(4, 20, DATAGRAM)),
    Kind(
        "re-INVITE: attributes",
        within("INVITE", body=sdp(AUDIO, VIDEO + "a=rtcp-fb:* nack pli\n" * 240)),
        dialog=True,
    ),
    Kind("INFO: signs", within("INFO", unit="<", content_type="application/media_control+xml"), dialog=True),
    Kind(
        "INFO: blanks",
        within("INFO", body="Signal", unit="\n ", content_type="application/dtmf-relay"),
        dialog=True,
    ),
    # over a connection
    Kind("stream: a head of letters", invite(before="X: ", unit="a", size=HEAD), stream=True),
    Kind("stream: From of quoted pairs", in_place("From: <", 'From: "@@" <', "\\a", size=HEAD), stream=True),
    Kind(
        "stream: Via of blanks",
        invite(before="Via: SIP/2.0/TCP h", unit=" ", after="h", size=HEAD),
        stream=True,
    ),
    Kind("stream: length of blanks", invite(before="l:", unit=" ", after="xy z", size=HEAD), stream=True),
    Kind("stream: lists", invite(before="Route: ", unit='"a"<sip:a@b>;c="d"', size=HEAD), stream=True),
    Kind(
        "stream: SDP of 256 KiB",
        lambda number, tag: filled(
            lambda fill: request("INVITE", body=OFFER + fill, **ids(number)), "x=y\n", BODY
        ),
        stream=True,
    ),
    Kind("stream: multipart of 256 KiB", multipart(4, 40, BODY), stream=True),
    Kind(
        "stream: INFO of 256 KiB",
        within("INFO", unit="<", content_type="application/media_control+xml", size=BODY),
        dialog=True,
        stream=True,
    ),
    Kind(
        "stream: INFO of words",
        within("INFO", unit="<aaaaaaa", content_type="application/media_control+xml", size=BODY),
        dialog=True,
        stream=True,
    ),
]


async def rounds() -> None:
    """Let what is ready run."""
    for _ in range(ROUNDS):
        await asyncio.sleep(0)


async def cost_ms(kind: Kind, times: int) -> tuple[str, list[float]]:
    """The last answer, and the CPU of each of so many messages."""
    agent, tag, costs, last = Wire(Recorder(), kind.config), "", list[float](), ""
    for number in range(times):
        if number % 50 == 0:  # a call that stands for each fifty, so that no agent grows without end
            await agent.run_out()
            agent = Wire(Recorder(), kind.config, transport="TCP" if kind.stream else "UDP")
            tag = await established(agent) if kind.dialog else ""
        data = wire(kind.make(number, tag))
        await rounds()
        began = time.thread_time()
        await rounds()
        empty = time.thread_time() - began
        began = time.thread_time()
        deliver(agent, data, stream=kind.stream)
        await rounds()
        costs.append(max(0.0, 1000 * (time.thread_time() - began - empty)))
        last = next((data[8:11].decode() for _, data in reversed(agent.sent) if data[:4] == b"SIP/"), "")
        agent.sent.clear()
        if kind.dialog and data.startswith(b"INVITE"):
            await agent.put(request("ACK", branch=f"z9hG4bKa{number}", seq=10 + number, to_tag=tag))
    await agent.run_out()
    return last, costs


def deliver(agent: Wire, data: bytes, *, stream: bool) -> None:
    """As the transport does."""
    if not stream:
        agent.agent.receive(data, agent.flow)
        return
    try:
        for message in Framer().feed(data):
            agent.agent.receive(message, agent.flow, stream=True)
    except FramingError:
        return


def pieces_ms(times: int) -> Iterator[tuple[str, list[float]]]:
    """CPU of each piece of a message that comes over a connection in many."""
    for name, size in (("of its head", 1), ("of its body", 100)):
        text = request("INVITE", body="x" * 200_000, headers="X: " + "y" * 15_000)
        data, costs, framer = wire(text), [], Framer()
        if size > 1:
            framer.feed(data[:16_000])
            data = data[16_000:]
        for at in range(0, min(len(data), size * times), size):
            began = time.thread_time()
            framer.feed(data[at : at + size])
            costs.append(1000 * (time.thread_time() - began))
        yield f"stream: a piece {name}, {size} octets", costs


async def run(kinds: list[Kind], times: int, limit: float) -> bool:
    """All kinds; whether they kept to the limit."""
    logging.disable(logging.CRITICAL)
    random.seed(1)
    good = True
    rows: list[tuple[str, str, list[float]]] = []
    print(f"{'ms of CPU':40} {'answer':>6} {'median':>8} {'p99':>8} {'worst':>8}")
    for kind in kinds:
        await cost_ms(kind, 5)
        gc.collect()
        rows.append((kind.name, *await cost_ms(kind, times)))
        good &= tell(*rows[-1], limit)
    for name, costs in pieces_ms(5000):
        rows.append((name, "", costs))
        good &= tell(*rows[-1], limit)
    highest = max(rows, key=lambda row: float(np.quantile(row[2], 0.99)))
    print(f"highest p99: {np.quantile(highest[2], 0.99):.2f} ms ({highest[0]}); limit {limit:g}")
    return good


def tell(name: str, answer: str, costs: list[float], limit: float) -> bool:
    """Print a row; whether it kept to the limit."""
    p99 = float(np.quantile(costs, 0.99))
    over = "  OVER" if p99 > limit else ""
    print(f"{name:40} {answer:>6} {np.median(costs):8.3f} {p99:8.3f} {max(costs):8.3f}{over}", flush=True)
    return p99 <= limit


def main() -> None:
    """Entry."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=200, help="messages of each kind")
    parser.add_argument("--limit", type=float, default=2.0, help="milliseconds")
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    options = parser.parse_args()
    kinds = [kind for kind in KINDS if options.only.lower() in kind.name.lower()]
    sys.exit(0 if asyncio.run(run(kinds, options.times, options.limit)) else 1)


if __name__ == "__main__":
    main()
