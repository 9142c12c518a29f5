"""DNS queries, and a DNS server of one's own choice for the names of inference servers.

SIP asks by :mod:`orchestrator.sip.transport.dns`, which caches answers and shuns silent servers for a while; the
addresses of a fleet are asked for anew each time.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Any

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
        self._resolver = asking(split_address(address), LIFETIME_S)

    async def __call__(self, target: str, known: Sequence[str]) -> list[str]:
        """``host:port`` of every A and AAAA record; ``known`` where the server does not answer."""
        host, port = split_target(target)
        kinds = ("A", "AAAA")
        try:
            answers = await asyncio.gather(*(records(self._resolver, host, kind) for kind in kinds))
        except dns.exception.DNSException as error:
            log.warning("name_not_resolved", host=host, reason=str(error))
            return list(known)
        v4, v6 = answers
        return sorted([f"{a.address}:{port}" for a in v4] + [f"[{a.address}]:{port}" for a in v6])


def asking(nameserver: tuple[str, int] | None, lifetime_s: float) -> dns.asyncresolver.Resolver:
    """dnspython's resolver, of this DNS server only or (``None``) of the system's.

    Raises ``dns.resolver.NoResolverConfiguration`` where the system has none.
    """
    resolver = dns.asyncresolver.Resolver(configure=nameserver is None)
    if nameserver is not None:
        resolver.nameservers, resolver.port = [nameserver[0]], nameserver[1]
    resolver.lifetime = lifetime_s
    return resolver


async def records(resolver: dns.asyncresolver.Resolver, name: str, kind: str) -> list[Any]:
    """Records of an absolute name in the order to try (RFC 2782), empty where there are none.

    Raises ``dns.exception.DNSException`` where no server answers.
    """
    try:
        answer = await resolver.resolve(name, kind, raise_on_no_answer=False, search=False)
    except (dns.resolver.NXDOMAIN, UnicodeError):  # UnicodeError: a label that is too long
        return []
    return list(answer.rrset.processing_order()) if answer.rrset is not None else []


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
