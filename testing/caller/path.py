"""A network path for one stream: two relays between phone and far end that lose and delay datagrams."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple, Self

from testing.caller.arrival import arrival
from testing.caller.recording import Stream

_DECK = 12


class Losses:
    """Which packets a path loses: bursts of ``burst`` on average, of geometric lengths as in a Gilbert model.

    Lengths come from a shuffled deck of the distribution's quantiles (up to eight packets for an average of three),
    and each burst has a stretch of its own, so long that it is ``share`` of it, to lie in anywhere: a call of half
    a minute loses nearly what it is meant to. The same ``seed`` always loses the same ones.
    """

    def __init__(self, share: float, burst: float = 1.0, seed: int = 3) -> None:
        self._share = share
        self._pattern = self._draw(burst, random.Random(seed))

    def next(self) -> bool:
        """Whether the next packet is lost."""
        return bool(self._share) and next(self._pattern)

    def _draw(self, burst: float, chance: random.Random) -> Iterator[bool]:
        # One by one, the neighbour of a lost packet is lost as often as any other.
        ends = 1 / max(burst, 1 / (1 - self._share))
        quantiles = ((number + 0.5) / _DECK for number in range(_DECK))
        deck = [1 + int(math.log(1 - q) / math.log(1 - ends)) for q in quantiles]
        at = lost = 0
        while True:
            for length in chance.sample(deck, _DECK):
                lost += length
                stretch = round(lost / self._share) - at
                before = chance.randint(0, stretch - length)
                at += stretch
                yield from itertools.repeat(False, before)
                yield from itertools.repeat(True, length)
                yield from itertools.repeat(False, stretch - length - before)


class Crossing(NamedTuple):
    """One RTP packet towards the phone; ``sequence`` is the original's where it is a repetition."""

    at: float
    sequence: int
    timestamp: int
    repeats: bool
    lost: bool


class _Hop(asyncio.DatagramProtocol):
    """One port: what comes from the phone goes to the far end, everything else to the phone."""

    def __init__(self, path: LossyPath, phone: tuple[str, int], lossy: bool) -> None:
        self._path, self._phone, self._lossy = path, phone, lossy
        self.far: tuple[str, int] | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self._descriptor = transport.get_extra_info("socket").fileno()

    def datagram_received(self, data: bytes, addr: Any) -> None:
        at = arrival(self._descriptor)
        inward = addr[:2] != self._phone
        if inward and self.far is None:
            self.far = addr[:2]
        if inward and self._lossy and self._path.crosses(data, at):
            return
        target = self._phone if inward else self.far
        if target is not None:
            asyncio.get_running_loop().call_at(at + self._path.delay, self._pass, data, target)

    def _pass(self, data: bytes, target: tuple[str, int]) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.sendto(data, target)


class LossyPath:
    """Loses ``share`` of the RTP to the phone, one by one or in bursts of ``burst`` on average, while ``lossy``.

    ``delay`` is one way, in seconds. ``entered`` is what the far end sent, without what it sent again;
    ``crossings`` has every packet.
    """

    def __init__(
        self, share: float, delay: float, *, burst: float = 1.0, seed: int = 3, clock_rate: int = 90_000
    ) -> None:
        self.delay, self.lossy = delay, True
        self.entered = Stream(clock_rate)
        self.crossings: list[Crossing] = []
        self._losses = Losses(share, burst, seed)
        self._seen: set[int] = set()
        self._hops: list[_Hop] = []

    def crosses(self, data: bytes, at: float) -> bool:
        """Note a packet for the phone; whether it is lost."""
        lost = self.lossy and self._losses.next()
        if len(data) < 14:
            return lost
        sequence, timestamp, ssrc = struct.unpack_from("!HII", data, 2)
        if self.entered.ssrc not in (
            None,
            ssrc,
        ):  # RTX: the original's number comes first (RFC 4588 section 4)
            (sequence,) = struct.unpack_from("!H", data, 12)
        if sequence not in self._seen:
            self._seen.add(sequence)
            self.entered.on_rtp(data, at)
            self.crossings.append(Crossing(at, sequence, timestamp, False, lost))
        else:
            self.crossings.append(Crossing(at, sequence, timestamp, True, lost))
        return lost

    def share_lost(self, since: float = -math.inf, until: float = math.inf) -> float:
        """Share of the packets sent between two moments that was lost, the first time they were sent."""
        first = [c.lost for c in self.crossings if not c.repeats and since <= c.at < until]
        return sum(first) / max(1, len(first))

    async def open(self, local: str, port: int) -> int:
        """Relay to the phone's RTP ``port`` and to RTCP above it; returns the port to name in the offer."""
        loop = asyncio.get_running_loop()
        for _ in range(50):
            first = random.randrange(40_000, 60_000, 2)
            try:
                for offset in (0, 1):
                    _, hop = await loop.create_datagram_endpoint(
                        lambda offset=offset: _Hop(self, (local, port + offset), offset == 0),  # type: ignore[misc]
                        local_addr=(local, first + offset),
                    )
                    self._hops.append(hop)
                return first
            except OSError:
                self.close()
        raise OSError("no port pair is free for the relay")

    def towards(self, far: tuple[str, int]) -> tuple[str, int]:
        """Where the phone sends what is meant for the far end's RTP port."""
        for offset, hop in enumerate(self._hops):
            hop.far = (far[0], far[1] + offset)
        transport = self._hops[0].transport
        assert transport is not None
        host, port = transport.get_extra_info("sockname")[:2]
        return host, port

    def close(self) -> None:
        """Close both ports."""
        for hop in self._hops:
            if hop.transport is not None:
                hop.transport.close()
        self._hops.clear()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
