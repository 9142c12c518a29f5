"""A small DNS server for benches and tests: one name, its A records as they are now, and its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Literal, Self

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rrset

TTL_S = 5


class NameServer(asyncio.DatagramProtocol):
    """Use as ``async with NameServer(name) as server``; UDP on a free port of ``host``.

    ``addresses`` may change at any moment. ``fault``: ``""``, ``silent`` (no answer at all) or ``servfail``.
    """

    def __init__(self, name: str, addresses: Iterable[str] = (), host: str = "127.0.0.1") -> None:
        self.name = name.rstrip(".") + "."
        self.addresses = set(addresses)
        self.fault: Literal["", "silent", "servfail"] = ""
        self.asked = 0
        self._host = host
        self._transport: asyncio.DatagramTransport | None = None

    @property
    def address(self) -> str:
        """``ip:port``."""
        assert self._transport is not None
        host, port = self._transport.get_extra_info("sockname")[:2]
        return f"{host}:{port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local_addr=(self._host, 0))
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._transport is not None
        self._transport.close()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        """Answer a query."""
        try:
            query = dns.message.from_wire(data)
        except dns.exception.DNSException:
            return
        self.asked += 1
        if self.fault != "silent" and self._transport is not None:
            self._transport.sendto(self._answer(query).to_wire(), addr)

    def _answer(self, query: dns.message.Message) -> dns.message.Message:
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.AA
        question = query.question[0]
        if self.fault == "servfail":
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif question.name.to_text().lower() != self.name:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif question.rdtype.name == "A" and self.addresses:
            answer.answer.append(
                dns.rrset.from_text(question.name, TTL_S, "IN", "A", *sorted(self.addresses))
            )
        return answer
