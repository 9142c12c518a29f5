"""DNS for SIP: NAPTR, SRV, A and AAAA records, from the system's servers or one of one's choice."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any, Protocol, cast

import dns.asyncresolver
import dns.exception
import dns.resolver

from orchestrator.nameserver import asking, records
from visavis.service.logs import Log

log = Log(__name__)

LIFETIME_SECONDS = 3.0
SILENCE_SECONDS = 30.0
CACHED_ANSWERS = 1000


class Unanswered(OSError):
    """No DNS server answers for this name."""


class Names(Protocol):
    """The records that locating a SIP server needs. Empty where there is no such record; raises Unanswered."""

    async def services(self, domain: str) -> list[tuple[str, str]]:
        """NAPTR: (service, name to ask for SRV) such as ("SIP+D2T", "_sip._tcp.example.com"), best first."""

    async def servers(self, name: str) -> list[tuple[str, int]]:
        """SRV: (host, port) in the order to try (RFC 2782)."""

    async def addresses(self, host: str) -> list[str]:
        """IP addresses of a host."""


class Resolver:
    """`Names` over the network, answers cached for their time to live.

    `nameserver` is the IP address and port of the only server asked; without it the system's are, and
    addresses come from the system's resolver, which knows /etc/hosts too.
    """

    def __init__(self, nameserver: tuple[str, int] | None = None) -> None:
        self._own = nameserver is not None
        self._resolver = _resolver(nameserver)
        self._silent: dict[str, float] = {}

    async def services(self, domain: str) -> list[tuple[str, str]]:
        records = await self._ask(domain, "NAPTR")
        return [
            (
                record.service.decode("ascii", "replace").upper(),
                record.replacement.to_text(omit_final_dot=True),
            )
            for record in records
            if record.flags.lower() == b"s" and not record.regexp
        ]

    async def servers(self, name: str) -> list[tuple[str, int]]:
        records = await self._ask(name, "SRV")
        found = [(record.target.to_text(omit_final_dot=True), record.port) for record in records]
        return [(host, port) for host, port in found if host != "."]  # a lone "." says: no such service

    async def addresses(self, host: str) -> list[str]:
        if self._own:
            answers = await asyncio.gather(self._ask(host, "A"), self._ask(host, "AAAA"))
            return [record.address for answer in answers for record in answer]
        try:
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # UnicodeError: what the idna codec makes of a label that is too long
            return []
        return [cast(str, address[0]) for *_, address in found]

    async def _ask(self, name: str, kind: str) -> list[Any]:
        if self._resolver is None:
            return []
        if self._silent.get(name, 0.0) > time.monotonic():
            raise Unanswered(f"no DNS server answers for {name}")
        try:
            return await records(self._resolver, name, kind)
        except dns.exception.DNSException as error:
            log.warning("dns_unanswered", name=name, type=kind, reason=error)
            if len(self._silent) >= CACHED_ANSWERS:
                self._silent.clear()
            self._silent[name] = time.monotonic() + SILENCE_SECONDS
            raise Unanswered(f"no DNS server answers for {name}") from None


def _resolver(nameserver: tuple[str, int] | None) -> dns.asyncresolver.Resolver | None:
    try:
        resolver = asking(nameserver, LIFETIME_SECONDS)
    except dns.resolver.NoResolverConfiguration:
        return None
    resolver.cache = dns.resolver.LRUCache(CACHED_ANSWERS)
    return resolver
