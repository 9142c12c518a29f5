"""Policy per source address: which networks may talk to us, and at what rates.

What is refused here is dropped without an answer: a scanner that gets no reply moves on, one that gets
a 403 has found a SIP server. Only a source that may call but calls too often is told so (503).
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
MAX_SOURCES = 4096
BYTES_PER_MESSAGE = 2048
"""Of a source's messages on average."""
WORK_PER_SECOND = 0.5
"""Seconds of our work a second, over which a source that is no proxy is not looked at."""
BURST_S = 2.0
"""Seconds whose allowance may come at once."""

_PRIVATE = ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16",
            "::1/128", "fc00::/7", "fe80::/10")  # fmt: skip


def parse_networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Networks in CIDR notation, or single addresses. Raises ValueError naming the entry that is neither."""
    networks = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text.strip(), strict=False))
        except ValueError as error:
            raise ValueError(f"{text!r} is not an IP address or network such as 192.0.2.0/24") from error
    return tuple(networks)


@dataclass(slots=True)
class Source:
    """What is remembered of one source address."""

    messages: float
    invites: float
    seen: float
    octets: float
    work: float


class SourcePolicy:
    """Token buckets over at most MAX_SOURCES addresses, the longest silent forgotten first."""

    def __init__(
        self,
        now: Callable[[], float],
        *,
        allow_from: Iterable[str] = (),
        proxies: Iterable[str] = (),
        messages_per_second: float = 500.0,
        invites_per_second: float = 60.0,
    ) -> None:
        self._now = now
        self._networks = parse_networks(allow_from) or parse_networks(_PRIVATE)
        self._proxies = parse_networks(proxies)
        self._trusted: OrderedDict[str, None] = OrderedDict()
        self._message_rate = messages_per_second
        self._invite_rate = invites_per_second
        self._contacted: OrderedDict[str, None] = OrderedDict()
        self._sources: OrderedDict[str, Source] = OrderedDict()
        self.dropped = 0

    def admits(self, host: str, size: int = 0) -> bool:
        """Whether one more message of `size` octets from `host` is looked at; counts it."""
        source = self._source(host)
        if source is None or source.messages < 1 or source.octets < size or source.work <= 0:
            self.dropped += 1
            return False
        source.messages -= 1
        source.octets -= size
        return True

    def worked(self, host: str, seconds: float) -> None:
        """So much work one message of `host` was, as measured. That of a proxy or trunk is many callers'."""
        source = self._sources.get(host)
        if source is not None and not (host in self._trusted or within(host, self._proxies)):
            source.work -= seconds

    def admits_invite(self, host: str) -> bool:
        """Whether one more new call from `host` is within its rate."""
        source = self._source(host)
        if source is None or source.invites < 1:
            return False
        source.invites -= 1
        return True

    def contacted(self, host: str) -> None:
        """We talk to `host`: its answers, and requests within calls, are let in; new calls are not."""
        self._contacted[host] = None
        self._contacted.move_to_end(host)
        if len(self._contacted) > MAX_SOURCES:
            self._contacted.popitem(last=False)

    def trust(self, host: str) -> None:
        """`host` is a trunk of ours: it may call."""
        self._trusted[host] = None
        self._trusted.move_to_end(host)
        if len(self._trusted) > MAX_SOURCES:
            self._trusted.popitem(last=False)

    def is_trunk(self, host: str) -> bool:
        """Whether `host` is a server of one of our accounts."""
        return host in self._trusted

    def may_call(self, host: str) -> bool:
        """Whether `host` may send requests that belong to no dialog."""
        return host in self._trusted or within(host, self._networks)

    def _source(self, host: str) -> Source | None:
        now = self._now()
        source = self._sources.get(host)
        if source is None:
            if host not in self._contacted and not self.may_call(host):
                return None
            messages, invites = BURST_S * self._message_rate, BURST_S * self._invite_rate
            octets, work = BYTES_PER_MESSAGE * messages, BURST_S * WORK_PER_SECOND
            source = Source(messages, invites, now, octets, work)
            self._sources[host] = source
            if len(self._sources) > MAX_SOURCES:
                self._sources.popitem(last=False)
        elapsed = now - source.seen
        source.seen = now
        rates = self._message_rate, self._invite_rate, BYTES_PER_MESSAGE * self._message_rate, WORK_PER_SECOND
        levels = source.messages, source.invites, source.octets, source.work
        source.messages, source.invites, source.octets, source.work = (
            min(BURST_S * rate, level + elapsed * rate) for rate, level in zip(rates, levels, strict=True)
        )
        self._sources.move_to_end(host)
        return source


def within(host: str, networks: tuple[Network, ...]) -> bool:
    """Whether `host` (an IP address) lies in one of `networks`."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return any(address in network for network in networks if network.version == address.version)
