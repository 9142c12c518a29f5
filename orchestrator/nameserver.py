"""A DNS server of one's own choice for the names of inference servers, in place of the system's resolver.

Not the reader of :mod:`orchestrator.sip.transport.dns`: that one caches answers and shuns silent servers for a
while, and a fleet's addresses must be asked for anew each time. What the two share is one call of dnspython.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.resolver

from visavis.client.discovery import split_target
from visavis.service.logs import Log

log = Log(__name__)

LIFETIME_S = 2.0


class Nameserver:
    """A resolver for :class:`visavis.client.pool.ServerPool`; names are taken as absolute.

    ``address`` is ``ip`` or ``ip:port`` (IPv6 with a port: ``[ip]:port``).
    """

    def __init__(self, address: str) -> None:
        host, port = split_address(address)
        self._resolver = dns.asyncresolver.Resolver(configure=False)
        self._resolver.nameservers = [host]
        self._resolver.port = port
        self._resolver.lifetime = LIFETIME_S

    async def __call__(self, target: str, known: Sequence[str]) -> list[str]:
        """``host:port`` of every A and AAAA record; ``known`` where the server does not answer."""
        host, port = split_target(target)
        kinds = ("A", "AAAA")
        try:
            answers = await asyncio.gather(*(self._ask(host, kind) for kind in kinds))
        except dns.exception.DNSException as error:
            log.warning("name_not_resolved", host=host, reason=str(error))
            return list(known)
        v4, v6 = answers
        return sorted([f"{a}:{port}" for a in v4] + [f"[{a}]:{port}" for a in v6])

    async def _ask(self, host: str, kind: str) -> list[str]:
        try:
            answer = await self._resolver.resolve(host, kind, raise_on_no_answer=False, search=False)
        except dns.resolver.NXDOMAIN:
            return []
        return [record.address for record in answer.rrset or ()]


def split_address(address: str) -> tuple[str, int]:
    """IP address and port, 53 where none is named. Raises ``ValueError`` with what is expected."""
    host, port = address, "53"
    if address.startswith("[") or address.count(":") == 1:
        host, _, port = address.rpartition(":")
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        port = ""
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(f"'{address}' is not a DNS server: write it as 10.96.0.10 or 10.96.0.10:53")
    return host.strip("[]"), int(port)


def resolver_of(nameserver: str) -> Nameserver | None:
    """The resolver for a setting; ``None`` is the system's."""
    return Nameserver(nameserver) if nameserver else None
