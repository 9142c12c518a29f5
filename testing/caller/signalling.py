"""A caller's signalling: INVITE, ACK, BYE and INFO over UDP (RFC 3261)."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import Callable
from typing import Any, Self

TIMEOUT_S = 10.0


class CallFailed(Exception):
    """The call was refused, or nobody answered; the message is one sentence."""


class _Signalling(asyncio.DatagramProtocol):
    def __init__(self, receive: Callable[[str], None]) -> None:
        self._receive = receive

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._receive(data.decode("utf-8", "replace"))


class Dialog:
    """One call to ``sip:user@host:port`` from the address ``local``; media is somebody else's.

    Use as ``async with Dialog(uri) as dialog`` and ``invite``; leaving hangs up.
    """

    def __init__(self, uri: str, local: str = "127.0.0.1") -> None:
        match = re.fullmatch(r"sip:([^@]+)@([^:;]+)(?::(\d+))?", uri)
        if match is None:
            raise CallFailed(f"'{uri}' is not like sip:demo@127.0.0.1:5060")
        self._uri = uri
        self._peer = (match[2], int(match[3] or 5060))
        self._local = local
        self._branch, self._tag, self._call_id = (secrets.token_hex(8) for _ in range(3))
        self._cseq = 1
        self._answers: asyncio.Queue[tuple[int, str]] = asyncio.Queue()
        self._target, self._to = uri, f"<{uri}>"
        self._routes: list[str] = []
        self._ack = ""
        self._transport: asyncio.DatagramTransport | None = None
        self.hung_up = asyncio.Event()

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: _Signalling(self._receive), local_addr=(self._local, 0)
        )
        return self

    async def __aexit__(self, *exc: object) -> None:
        if self._ack and not self.hung_up.is_set():
            await self.request("BYE")
        if self._transport is not None:
            self._transport.close()

    async def request(self, method: str, body: str = "", kind: str = "") -> None:
        """Send a request in the call and wait for its final answer, a few seconds at most."""
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

    async def invite(self, offer: str) -> str:
        """Call with this SDP; returns the answer's. Raises :class:`CallFailed`."""
        message = await self._answered(
            self._request("INVITE", self._uri, f"<{self._uri}>", offer, "application/sdp")
        )
        self._target = _header(message, "Contact").split("<")[-1].split(">")[0]
        self._routes = _routes(message)
        return self._acknowledge(message)

    async def reinvite(self, offer: str, headers: tuple[str, ...] = ()) -> str:
        """Offer anew within the call, with further header lines; returns the answer's SDP. Raises
        :class:`CallFailed`."""
        self._cseq += 1
        self._branch = secrets.token_hex(8)
        before, self._ack = self._ack, ""
        try:
            message = await self._answered(
                self._request("INVITE", self._target, self._to, offer, "application/sdp", headers)
            )
        except (CallFailed, TimeoutError):
            self._ack = before
            raise
        return self._acknowledge(message)

    async def _answered(self, request: str) -> str:
        """The 2xx to an INVITE; any other answer is acknowledged and raised."""
        wait = 0.5
        async with asyncio.timeout(TIMEOUT_S * 3):
            self._send(request)
            status = 0
            while status < 200:
                try:
                    async with asyncio.timeout(wait if not status else TIMEOUT_S):
                        code, message = await self._answers.get()
                        if _header(message, "CSeq").split()[:1] == [str(self._cseq)]:
                            status = code  # any other one is late and answers what came before
                except TimeoutError:
                    if status or wait > TIMEOUT_S:
                        raise CallFailed(f"{self._uri} does not answer") from None
                    wait *= 2
                    self._send(request)
        self._to = _header(message, "To")
        if status >= 300:
            self._send(self._request("ACK", request.split()[1], self._to))
            reason = message.split("\r\n", 1)[0].split(" ", 1)[1]
            raise CallFailed(f"{self._uri} refused the call: {reason}")
        return message

    def _acknowledge(self, message: str) -> str:
        self._branch = secrets.token_hex(8)
        self._ack = self._request("ACK", self._target, self._to)
        self._send(self._ack)
        return message.partition("\r\n\r\n")[2]

    def _receive(self, message: str) -> None:
        line = message.split("\r\n", 1)[0]
        if line.startswith("SIP/2.0 "):
            status = int(line.split()[1])
            if status == 200 and "INVITE" in _header(message, "CSeq") and self._ack:
                self._send(self._ack)  # a retransmitted answer
                return
            self._answers.put_nowait((status, message))
        elif line.startswith(("BYE ", "OPTIONS ", "INFO ")):
            kept = [h for h in message.split("\r\n")[1:] if h.lower().startswith(_KEPT)]
            self._send("\r\n".join(["SIP/2.0 200 OK", *kept, "Content-Length: 0", "", ""]))
            if line.startswith("BYE "):
                self.hung_up.set()

    def _request(
        self,
        method: str,
        target: str,
        to: str,
        body: str = "",
        kind: str = "",
        further: tuple[str, ...] = (),
    ) -> str:
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
            *further,
            *([f"Content-Type: {kind}"] if kind else []),
            f"Content-Length: {len(body)}",
        ]
        return "\r\n".join(headers) + "\r\n\r\n" + body

    def _send(self, message: str) -> None:
        assert self._transport is not None
        self._transport.sendto(message.encode(), self._peer)


_KEPT = ("via:", "from:", "to:", "call-id:", "cseq:")


def _header(message: str, name: str) -> str:
    match = re.search(rf"^{name}\s*:\s*(.*?)\r$", message, re.MULTILINE | re.IGNORECASE)
    return match[1] if match else ""


def _routes(message: str) -> list[str]:
    """The proxies that stay on the way, nearest first (RFC 3261 section 12.1.2)."""
    lines = re.findall(r"^Record-Route\s*:\s*(.*?)\r$", message, re.MULTILINE | re.IGNORECASE)
    return [route.strip() for line in lines for route in line.split(",")][::-1]
