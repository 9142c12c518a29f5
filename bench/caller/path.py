"""A network path for one video stream: two relays between phone and far end that lose and delay datagrams."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Self

from bench.caller.recording import Stream


class _Hop(asyncio.DatagramProtocol):
    """One port: what comes from the phone goes to the far end, everything else to the phone."""

    def __init__(self, path: LossyPath, phone: tuple[str, int], lossy: bool) -> None:
        self._path, self._phone, self._lossy = path, phone, lossy
        self.far: tuple[str, int] | None = None
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        inward = addr[:2] != self._phone
        if inward and self.far is None:
            self.far = addr[:2]
        if inward and self._lossy:
            self._path.entered.on_rtp(data, time.monotonic())
            if self._path.loses():
                return
        target = self._phone if inward else self.far
        if target is not None:
            asyncio.get_running_loop().call_later(self._path.delay, self._pass, data, target)

    def _pass(self, data: bytes, target: tuple[str, int]) -> None:
        if self.transport is not None and not self.transport.is_closing():
            self.transport.sendto(data, target)


class LossyPath:
    """Loses ``share`` of the RTP to the phone, one by one or in bursts of ``burst`` on average.

    ``delay`` is one way, in seconds; the losses of one ``seed`` are always the same ones. ``entered`` is what
    the far end sent.
    """

    def __init__(
        self, share: float, delay: float, *, burst: float = 1.0, seed: int = 1, clock_rate: int = 90_000
    ) -> None:
        self.share, self.delay, self._burst = share, delay, burst
        self.entered = Stream(clock_rate)
        self.passed = self.lost = 0
        self._random = random.Random(seed)
        self._losing = False
        self._hops: list[_Hop] = []

    def loses(self) -> bool:
        """Whether the next packet is lost (Gilbert model)."""
        draw = self._random.random()
        if self._burst <= 1:
            self._losing = draw < self.share
        elif self._losing:
            self._losing = draw >= 1 / self._burst
        else:
            self._losing = draw < self.share / (1 - self.share) / self._burst
        self.lost += self._losing
        self.passed += not self._losing
        return self._losing

    @property
    def measured(self) -> float:
        """Share that was lost so far."""
        return self.lost / max(1, self.lost + self.passed)

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
