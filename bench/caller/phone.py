"""The phone: INVITE, ACK and BYE over UDP (RFC 3261), an offer of PCMU and H.264 (RFC 3264, RFC 6184)."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from typing import Any, Literal, Self

from bench.caller.media import MediaSockets
from bench.caller.path import LossyPath
from bench.caller.recording import Recording
from bench.caller.repair import Repair

TIMEOUT_S = 10.0
KeyframeRequest = Literal["pli", "fir", "legacy fir", "info"]
_FAST_UPDATE = (
    '<?xml version="1.0" encoding="utf-8" ?><media_control><vc_primitive><to_encoder>'
    "<picture_fast_update/></to_encoder></vc_primitive></media_control>"
)


class CallFailed(Exception):
    """The call was refused, or nobody answered; the message is one sentence."""


class _Signalling(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[str], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._receive(data.decode("utf-8", "replace"))


class Phone:
    """One call to ``sip:user@host:port``. Use as ``async with Phone(uri) as phone``; leaving hangs up.

    ``codec`` is PCMU or PCMA, ``video`` False makes a voice call, ``local`` is the address of this end.
    ``path`` is between its video ports and the far end, ``audio_path`` between its audio ports; with ``nack`` it
    asks for what is lost; with ``blind`` every key frame is lost until ``lose_keyframes`` says otherwise.
    ``feedback`` is what it offers as ``a=rtcp-fb``; without, it asks for no key frame by itself either.
    Raises :class:`CallFailed`.
    """

    def __init__(
        self,
        uri: str,
        *,
        video: bool = True,
        codec: str = "PCMU",
        local: str = "127.0.0.1",
        bandwidth: int = 1500,
        path: LossyPath | None = None,
        audio_path: LossyPath | None = None,
        nack: bool = False,
        feedback: tuple[str, ...] = ("nack pli", "ccm fir"),
        blind: bool = False,
    ) -> None:
        match = re.fullmatch(r"sip:([^@]+)@([^:;]+)(?::(\d+))?", uri)
        if match is None:
            raise CallFailed(f"'{uri}' is not like sip:demo@127.0.0.1:5060")
        self._uri = uri
        self._peer = (match[2], int(match[3] or 5060))
        self._local, self._video, self._codec, self._bandwidth = local, video, codec, bandwidth
        self._branch, self._tag, self._call_id = (secrets.token_hex(8) for _ in range(3))
        self._path, self._audio_path, self._nack, self._blind = path, audio_path, nack, blind
        self._feedback = (*feedback, *(["nack"] if nack else []))
        self._cseq = 1
        self._answers: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self._target, self._to = uri, f"<{uri}>"
        self._routes: list[str] = []
        self._transport: asyncio.DatagramTransport | None = None
        self._media: MediaSockets | None = None
        self.hung_up = asyncio.Event()
        self.recording = Recording(codec)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Signalling(self._receive), local_addr=(self._local, 0)
        )
        try:
            self._media = await MediaSockets.open(
                self._local, self.recording, self._path, self._nack, self._audio_path
            )
            self._media.loses_keyframes = self._blind
            if "nack pli" not in self._feedback:
                self._media.repair = None
            answer = await self._invite()
            self._media.connect(answer)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        if not self.hung_up.is_set():
            await self._in_dialog("BYE")
        self._close()

    def press(self, digit: str) -> None:
        """Send a DTMF digit (RFC 4733)."""
        assert self._media is not None
        self._media.press(digit)

    async def request_keyframe(self, way: KeyframeRequest = "pli") -> None:
        """Ask for a key frame in one of the ways that phones know."""
        assert self._media is not None
        match way:
            case "pli":
                self._media.send_pli()
            case "fir":
                self._media.send_fir()
            case "legacy fir":
                self._media.send_legacy_fir()
            case "info":
                await self._in_dialog("INFO", _FAST_UPDATE, "application/media_control+xml")

    def lose_keyframes(self, lost: bool) -> None:
        """Whether every packet of a key frame is lost from now on."""
        assert self._media is not None
        self._media.loses_keyframes = lost

    @property
    def repair(self) -> Repair | None:
        """What was asked for again."""
        return self._media.repair if self._media else None

    def mute(self) -> None:
        """Send neither RTP nor RTCP from now on."""
        assert self._media is not None
        self._media.mute()

    async def _in_dialog(self, method: str, body: str = "", kind: str = "") -> None:
        self._cseq += 1
        self._branch = secrets.token_hex(8)
        request = self._request(method, self._target, self._to, body, kind)
        for wait in (0.5, 1.0, 2.0):
            self._send(request)
            try:
                async with asyncio.timeout(wait):
                    while (await self._answers.get())[0] < 200:
                        pass
                return
            except TimeoutError:
                continue

    async def _invite(self) -> str:
        request = self._request("INVITE", self._uri, f"<{self._uri}>", self._offer(), "application/sdp")
        wait = 0.5
        async with asyncio.timeout(TIMEOUT_S * 3):
            self._send(request)
            status = 0
            while status < 200:
                try:
                    async with asyncio.timeout(wait if not status else TIMEOUT_S):
                        status, message = await self._answers.get()
                except TimeoutError:
                    if status or wait > TIMEOUT_S:
                        raise CallFailed(f"{self._uri} does not answer") from None
                    wait *= 2
                    self._send(request)
        self._to = _header(message, "To")
        if status >= 300:
            self._send(self._request("ACK", self._uri, self._to))
            reason = message.split("\r\n", 1)[0].split(" ", 1)[1]
            raise CallFailed(f"{self._uri} refused the call: {reason}")
        self._target = _header(message, "Contact").split("<")[-1].split(">")[0]
        self._routes = _routes(message)
        self._branch = secrets.token_hex(8)
        self._ack = self._request("ACK", self._target, self._to)
        self._send(self._ack)
        return message.partition("\r\n\r\n")[2]

    def _receive(self, message: str) -> None:
        line = message.split("\r\n", 1)[0]
        if line.startswith("SIP/2.0 "):
            status = int(line.split()[1])
            if status == 200 and "INVITE" in _header(message, "CSeq") and hasattr(self, "_ack"):
                self._send(self._ack)  # a retransmitted answer
                return
            self._answers.put_nowait((status, message))
        elif line.startswith(("BYE ", "OPTIONS ", "INFO ")):
            kept = [h for h in message.split("\r\n")[1:] if h.lower().startswith(_KEPT)]
            self._send("\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]))
            if line.startswith("BYE "):
                self.hung_up.set()

    def _request(self, method: str, target: str, to: str, body: str = "", kind: str = "") -> str:
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")[:2]
        cseq = self._cseq
        headers = [
            f"{method} {target} SIP/2.0",
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{self._branch};rport",
            *(f"Route: {route}" for route in self._routes),
            "Max-Forwards: 70",
            f"From: <sip:caller@{host}:{port}>;tag={self._tag}",
            f"To: {to}",
            f"Call-ID: {self._call_id}",
            f"CSeq: {cseq} {method}",
            f"Contact: <sip:caller@{host}:{port}>",
            *([f"Content-Type: {kind}"] if kind else []),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(headers) + "\r\n\r\n" + body

    def _offer(self) -> str:
        assert self._media is not None
        payload_type = {"PCMU": 0, "PCMA": 8}[self._codec]
        lines = [
            "v=0",
            f"o=- 1 1 IN IP4 {self._local}",
            "s=-",
            f"c=IN IP4 {self._local}",
            "t=0 0",
            f"m=audio {self._media.audio_port} RTP/AVP {payload_type} 101",
            f"a=rtpmap:{payload_type} {self._codec}/8000",
            "a=rtpmap:101 telephone-event/8000",
            "a=fmtp:101 0-15",
            "a=sendrecv",
        ]
        if self._video:
            lines += [
                f"m=video {self._media.video_port} RTP/AVP 96",
                f"b=AS:{self._bandwidth}",
                "a=rtpmap:96 H264/90000",
                "a=fmtp:96 profile-level-id=42e01f;packetization-mode=1",
                *(f"a=rtcp-fb:96 {feedback}" for feedback in self._feedback),
                "a=sendrecv",
            ]
        return "\r\n".join(lines) + "\r\n"

    def _send(self, message: str) -> None:
        assert self._transport is not None
        self._transport.sendto(message.encode(), self._peer)

    def _close(self) -> None:
        if self._media is not None:
            self._media.close()
        if self._transport is not None:
            self._transport.close()


_KEPT = ("via:", "from:", "to:", "call-id:", "cseq:")


def _header(message: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.*?)\r$", message, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""


def _routes(message: str) -> list[str]:
    """The proxies that stay on the way, nearest first (RFC 3261 section 12.1.2)."""
    lines = re.findall(r"^Record-Route\s*:\s*(.*?)\r$", message, re.MULTILINE | re.IGNORECASE)
    return [route.strip() for line in lines for route in line.split(",")][::-1]
