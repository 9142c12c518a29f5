"""To whom a call may send, and how much, until an address has shown that it wants it (RFC 7675, RFC 9000 8.1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

UNPROVEN_OCTETS = 25 * (12 + 160)
"""Half a second of G.711 in packets of 20 ms, headers of RTP included."""
UNPROVEN_FACTOR = 3

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class SignallingPeer:
    """What signalling knows of a call's far end.

    ``hosts`` are IP addresses: where its signalling comes from and the servers of its trunk. ``networks`` are in
    CIDR notation: a phone that sends from there, shortly after an offer or answer, is taken for the call's own.
    """

    hosts: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()


class Networks:
    """Whether addresses lie in some networks. Raises ``ValueError`` for what is no network."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._networks: list[Network] = [ipaddress.ip_network(text, strict=False) for text in texts]

    def __contains__(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            return False
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks if network.version == address.version)


class Consent:
    """One call's account of octets, for all its streams, and the address that its voice is confirmed at.

    What goes to addresses that have not proved themselves never exceeds half a second of voice and three times
    what has come from anywhere.
    """

    def __init__(self) -> None:
        self.received = 0
        self.unproven = 0
        self.voice: str | None = None

    def take(self, octets: int) -> bool:
        """Whether so much more may go to an unproven address; counts it where it may."""
        if self.unproven + octets > UNPROVEN_OCTETS + UNPROVEN_FACTOR * self.received:
            return False
        self.unproven += octets
        return True
