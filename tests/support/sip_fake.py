"""A SIP agent on a fake clock and fake wires: bytes in, bytes out, no sockets, no waiting."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from orchestrator.sip.agent.agent import Agent
from orchestrator.sip.call.call import Call
from orchestrator.sip.call.events import EndCause, RefusedCall
from orchestrator.sip.call.incoming import IncomingCall
from orchestrator.sip.config import SipConfig
from orchestrator.sip.handler import BaseHandler
from orchestrator.sip.message.grammar import Uri
from orchestrator.sip.message.message import Headers, Request, Response
from orchestrator.sip.message.parsing import MalformedMessage, parse_message
from orchestrator.sip.sdp.capabilities import (
    AudioCapabilities,
    MediaCapabilities,
    NegotiatedMedia,
    VideoCapabilities,
)
from orchestrator.sip.transport.flow import Flow
from orchestrator.sip.transport.locate import Hop
from tests.support.leftovers import before_the_loop_closes

PEER = ("127.0.0.9", 5099)
LOCAL = ("127.0.0.1", 5060)

AUDIO = """m=audio 6000 RTP/AVP 0 8 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
"""
VIDEO = """m=video 6002 RTP/AVP 96
a=rtpmap:96 H264/90000
a=fmtp:96 packetization-mode=1;profile-level-id=42e01f
a=rtcp-fb:* nack pli
"""


def sdp(*media: str, version: int = 1, address: str = "127.0.0.9", session: str = "") -> str:
    text = f"v=0\no=- 7 {version} IN IP4 {address}\ns=-\nc=IN IP4 {address}\nt=0 0\n{session}"
    return (text + "".join(media)).replace("\n", "\r\n")


def capabilities(*, video: bool = True) -> MediaCapabilities:
    return MediaCapabilities("127.0.0.1", AudioCapabilities(4000), VideoCapabilities(4002) if video else None)


@dataclass
class FakeTimer:
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Time stands still until `advance`."""

    def __init__(self) -> None:
        self.time = 1000.0
        self._queue: list[tuple[float, int, FakeTimer, Callable[[], None]]] = []
        self._order = itertools.count()

    def now(self) -> float:
        return self.time

    def call_later(self, delay: float, callback: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer()
        heapq.heappush(self._queue, (self.time + delay, next(self._order), timer, callback))
        return timer

    def advance(self, seconds: float) -> None:
        end = self.time + seconds
        while self._queue and self._queue[0][0] <= end:
            self.time, _, timer, callback = heapq.heappop(self._queue)
            if not timer.cancelled:
                callback()
        self.time = end

    @property
    def pending(self) -> int:
        """Live timers."""
        return sum(not timer.cancelled for _, _, timer, _ in self._queue)


@dataclass
class Recorder(BaseHandler):
    """Answers calls at once unless `on_call` says otherwise, and writes down what it is told."""

    on_call: Callable[[IncomingCall], None] | None = None
    caps: MediaCapabilities = field(default_factory=capabilities)
    events: list[tuple[str, object]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    media: list[NegotiatedMedia] = field(default_factory=list)

    async def on_invite(self, call: IncomingCall) -> None:
        self.calls.append(call)
        self.events.append(("invite", call.user))
        if self.on_call is not None:
            self.on_call(call)
        else:
            call.answer(self.caps)

    async def on_refused(self, call: RefusedCall) -> None:
        self.events.append(("refused", call))

    async def on_media(self, call: Call, media: NegotiatedMedia) -> None:
        self.media.append(media)
        self.events.append(("media", media.on_hold))

    async def on_established(self, call: Call) -> None:
        self.events.append(("established", call.user))

    async def on_progress(self, call: Call, status: int) -> None:
        self.events.append(("progress", status))

    async def on_keyframe_request(self, call: Call) -> None:
        self.events.append(("keyframe", call.user))

    async def on_dtmf(self, call: Call, digit: str, duration: int) -> None:
        self.events.append(("dtmf", (digit, duration)))

    async def on_ended(self, call: Call, cause: EndCause) -> None:
        self.events.append(("ended", cause))

    @property
    def cause(self) -> EndCause:
        """How the only call that ended did so."""
        (cause,) = [value for name, value in self.events if name == "ended"]
        assert isinstance(cause, EndCause)
        return cause


class Wire:
    """An agent, and a peer's pen: what is sent to it and what it sends."""

    def __init__(
        self, handler: Recorder | None = None, config: SipConfig | None = None, *, transport: str = "UDP"
    ):
        self.clock = FakeClock()
        self.handler = handler or Recorder()
        self.sent: list[tuple[tuple[str, int], bytes]] = []
        self.flow = Flow(transport, LOCAL, PEER, self._sent)
        self.agent = Agent(config or SipConfig(), self.handler, self.clock, self)
        self.unreachable = False
        self.asked: list[str] = []
        self.hops: list[Hop] = []
        before_the_loop_closes(self.run_out)

    async def run_out(self) -> None:
        """Let every transaction come to its end, which on this clock it does only when time passes."""
        for _ in range(4):
            self.clock.advance(32.0)
            await settle()

    async def locate(self, uri: Uri) -> list[Hop]:
        self.asked.append(str(uri))
        return self.hops or [Hop(self.flow.transport, uri.bare_host, uri.port or 5060)]

    def local_host(self, hop: Hop) -> str:
        return LOCAL[0]

    async def open_flow(self, hop: Hop, *, size: int = 0) -> Flow:
        if self.unreachable:
            raise OSError("no route")
        return replace(self.flow, remote=(hop.host, hop.port), on_close=[])

    async def put(self, message: str | bytes, flow: Flow | None = None) -> list[Request | Response]:
        """Deliver one message and return what came back at once."""
        data = (
            message.replace("\r\n", "\n").replace("\n", "\r\n").encode()
            if isinstance(message, str)
            else message
        )
        flow = flow or self.flow
        self.agent.receive(data, flow, stream=flow.reliable)
        await settle()
        return self.take()

    async def pass_time(self, seconds: float) -> list[Request | Response]:
        self.clock.advance(seconds)
        await settle()
        return self.take()

    def take(self) -> list[Request | Response]:
        sent, self.sent = self.sent, []
        return [read(data) for _, data in sent]

    def _sent(self, data: bytes, remote: tuple[str, int]) -> None:
        self.sent.append((remote, data))
        self.agent.tracer.note("out", remote, data)


def read(data: bytes) -> Request | Response:
    """Parse what the agent sent; a refusal repeats the broken headers of what it refuses."""
    try:
        return parse_message(data)
    except MalformedMessage:
        head, _, body = data.partition(b"\r\n\r\n")
        start, *lines = head.decode("utf-8", "surrogateescape").split("\r\n")
        _, status, reason = start.split(" ", 2)
        assert int(status) >= 400
        pairs = [line.partition(": ") for line in lines]
        return Response(Headers((name, value) for name, _, value in pairs), body, int(status), reason)


async def settle() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


def request(
    method: str,
    *,
    uri: str = "sip:anna@127.0.0.1",
    branch: str = "z9hG4bKa",
    seq: int = 1,
    to_tag: str = "",
    from_tag: str = "ft",
    call_id: str = "c1",
    headers: str = "",
    body: str = "",
    content_type: str = "application/sdp",
    transport: str = "UDP",
) -> str:
    """A well-formed request of the peer; `headers` are whole lines."""
    body = body.replace("\r\n", "\n").replace("\n", "\r\n")
    lines = [
        f"{method} {uri} SIP/2.0",
        f"Via: SIP/2.0/{transport} {PEER[0]}:{PEER[1]};branch={branch};rport",
        f"From: <sip:peer@{PEER[0]}>;tag={from_tag}",
        f"To: <sip:anna@127.0.0.1>{f';tag={to_tag}' if to_tag else ''}",
        f"Call-ID: {call_id}",
        f"CSeq: {seq} {method}",
        "Max-Forwards: 70",
        f"Contact: <sip:peer@{PEER[0]}:{PEER[1]}>",
        *(line for line in headers.strip().split("\n") if line),
        *([f"Content-Type: {content_type}"] if body else []),
        f"Content-Length: {len(body.encode())}",
    ]
    return "\n".join(lines) + "\n\n" + body


def reply_to(sent: Request, status: int, *, body: str = "", headers: str = "") -> str:
    """The peer's response to a request of ours."""
    body = body.replace("\r\n", "\n").replace("\n", "\r\n")
    lines = [f"SIP/2.0 {status} Fine", *(f"Via: {value}" for value in sent.headers.all("Via"))]
    lines += [f"{name}: {sent.headers.get(name)}" for name in ("From", "Call-ID", "CSeq")]
    to = sent.headers.get("To") or ""
    lines.append(f"To: {to}" if ";tag=" in to else f"To: {to};tag=peer")
    lines += [f"Contact: <sip:peer@{PEER[0]}:{PEER[1]}>", *(line for line in headers.split("\n") if line)]
    lines += ["Content-Type: application/sdp"] if body else []
    return "\n".join([*lines, f"Content-Length: {len(body)}"]) + "\n\n" + body


def statuses(messages: list[Request | Response]) -> list[int]:
    return [message.status for message in messages if isinstance(message, Response)]


def only(messages: list[Request | Response], status: int) -> Response:
    (found,) = [m for m in messages if isinstance(m, Response) and m.status == status]
    return found


def only_request(messages: list[Request | Response], method: str) -> Request:
    (found,) = [m for m in messages if isinstance(m, Request) and m.method == method]
    return found


async def established(wire: Wire, *, body: str | None = None, headers: str = "") -> str:
    """Make a call and confirm it; returns our To tag."""
    offer = sdp(AUDIO, VIDEO) if body is None else body
    answer = only(await wire.put(request("INVITE", body=offer, headers=headers)), 200)
    tag = answer.to.tag or ""
    await wire.put(request("ACK", branch="z9hG4bKack", to_tag=tag))
    return tag
