"""Locating SIP servers (RFC 3263): from a URI to the transports, addresses and ports to try, in order."""

from __future__ import annotations

import contextlib
import ipaddress
from dataclasses import dataclass

from orchestrator.sip.message.grammar import Uri
from orchestrator.sip.transport.dns import Names, Unanswered
from orchestrator.sip.transport.flow import DEFAULT_PORTS

_SERVICES = {"SIP+D2U": "UDP", "SIP+D2T": "TCP", "SIPS+D2T": "TLS"}
_PREFIXES = {"UDP": "_sip._udp.", "TCP": "_sip._tcp.", "TLS": "_sips._tcp."}
MAX_HOPS = 8


@dataclass(frozen=True, slots=True)
class Hop:
    """One way to a server. `domain` is what its certificate must be for; `chosen`: the transport was asked for."""

    transport: str
    host: str
    port: int
    domain: str = ""
    chosen: bool = True


async def locate(uri: Uri, names: Names) -> list[Hop]:
    """The hops for a URI, at most MAX_HOPS. Raises OSError where there is none."""
    if not uri.is_sip:
        raise OSError(f"no way to a {uri.scheme} URI")
    secure = uri.scheme == "sips"
    transport = uri.transport
    if secure and transport in (None, "TCP"):
        transport = "TLS"
    if transport is not None and transport not in DEFAULT_PORTS:
        raise OSError(f"no transport {transport} here")
    host = uri.params.get("maddr") or uri.bare_host
    hops: list[Hop] = []
    if uri.port is None and "." in host and not is_address(host):
        with contextlib.suppress(Unanswered):  # an address may still be known to the system
            hops = await _by_service(host, transport, secure, names)
    if not hops:
        kind = transport or "UDP"
        port = uri.port or DEFAULT_PORTS[kind]
        addresses = [host] if is_address(host) else await names.addresses(host)
        hops = [Hop(kind, ip, port, uri.bare_host, transport is not None) for ip in addresses]
    if not hops:
        raise OSError(f"{host!r} has no address")
    return list(dict.fromkeys(hops))[:MAX_HOPS]


async def _by_service(domain: str, transport: str | None, secure: bool, names: Names) -> list[Hop]:
    """Through NAPTR and SRV (sections 4.1 and 4.2); empty where the domain has neither."""
    services: list[tuple[str, str]] = []
    if transport is None or secure:
        services = [
            (_SERVICES[service], name)
            for service, name in await names.services(domain)
            if service in _SERVICES and (_SERVICES[service] == "TLS" or not secure)
        ]
    if not services:
        kinds = [transport] if transport else ["UDP", "TCP"]
        services = [(kind, _PREFIXES[kind] + domain) for kind in kinds]
    hops = []
    for kind, name in services:
        for host, port in await names.servers(name):
            addresses = [host] if is_address(host) else await names.addresses(host)
            hops += [Hop(kind, address, port, domain) for address in addresses]
    return hops


def is_address(host: str) -> bool:
    """Whether a host is an IPv4 or IPv6 address, not a name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
