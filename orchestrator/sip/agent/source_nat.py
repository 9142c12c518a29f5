"""Whether somebody before us hides who calls: then networks, shares and rates by address mean nothing."""

from __future__ import annotations

import ipaddress

ENOUGH = 5
MAX_SOURCES = 256


class SourceNat:
    """Watches for one private address that brings the calls of several public ones, as a NAT of sources does."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}
        self._told: set[str] = set()

    def note(self, source: str, sent_by: str) -> str:
        """A call from `source` whose Via names `sent_by`: a sentence where that is one too many, "" otherwise."""
        if source in self._told or not _is_private(source) or not _is_public(sent_by):
            return ""
        if source not in self._seen and len(self._seen) >= MAX_SOURCES:
            self._seen.clear()
        seen = self._seen.setdefault(source, set())
        seen.add(sent_by)
        if len(seen) < ENOUGH:
            return ""
        self._told.add(source)
        del self._seen[source]
        return (
            f"calls of {ENOUGH} public addresses come from {source}, which is private: if that is a NAT before us "
            "(Docker's, a load balancer's), everybody counts as private and may call. Keep source addresses, or "
            "name it in VISAVIS_SIP_PROXIES if it is a proxy"
        )


def _is_private(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_private and not address.is_loopback


def _is_public(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return False
