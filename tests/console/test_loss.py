"""A browser's call over a path that loses packets, loses the handshake's, and changes under it."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from typing import cast

import pytest

from orchestrator.rtp.dtls import is_dtls
from tests.console.test_call import READY, cards, console, figures
from tests.support.chromium import FAKE_DEVICES, chromium
from tests.support.house import orchestrator, tone
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("chromium")]
THROUGH = """(() => {
  const real = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = async function ({type, sdp}) {
    const port = /a=candidate:\\S+ 1 udp \\d+ \\S+ (\\d+)/.exec(sdp)[1];
    const relay = await window.relay(port);
    const lines = sdp.replace(/a=candidate:.* tcp .*\\r\\n/g, "").replace(/(a=candidate:\\S+ 1 udp \\d+ \\S+ )\\d+/g, `$1${relay}`);
    return real.call(this, {type, sdp: lines});
  };
  window.relay = port => new Promise(done => { window.wanted = port; window.found = done; });
})()"""  # noqa: E501
"""Every candidate of ours becomes the relay's."""


class Relay(asyncio.DatagramProtocol):
    """A port that leads to another, and drops what ``drops`` says."""

    def __init__(self, target: tuple[str, int], drops: Callable[[bytes], bool]) -> None:
        self.target = target
        self.drops = drops
        self.dropped = self.passed = 0
        self._ways: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self._own: asyncio.DatagramTransport | None = None
        self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._own = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.lost(data):
            return
        way = self._ways.get(addr)
        if way is None:
            asyncio.get_running_loop().create_task(self._open(data, addr))
        else:
            way.sendto(data)

    async def _open(self, data: bytes, addr: tuple[str, int]) -> None:
        relay = self

        class Back(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, _: tuple[str, int]) -> None:
                if not relay.lost(data) and relay._own is not None:
                    relay._own.sendto(data, addr)

        way, _ = await asyncio.get_running_loop().create_datagram_endpoint(Back, remote_addr=self.target)
        if addr in self._ways or self._closed:  # two datagrams came at once, or one as all was over
            way.close()
        else:
            self._ways[addr] = way
        if addr in self._ways:
            self._ways[addr].sendto(data)

    def lost(self, data: bytes) -> bool:
        drop = self.drops(data)
        self.dropped += drop
        self.passed += not drop
        return drop

    def close(self) -> None:
        self._closed = True
        for way in (*self._ways.values(), self._own):
            if way is not None:
                way.close()


@contextlib.asynccontextmanager
async def relayed(
    drops: Callable[[bytes], bool],
) -> AsyncIterator[Callable[[str], asyncio.Task[tuple[int, Relay]]]]:
    """Makes relays to ports of this machine."""
    relays: list[Relay] = []

    async def make(port: int) -> tuple[int, Relay]:
        transport, relay = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: Relay(("127.0.0.1", port), drops), local_addr=("127.0.0.1", 0)
        )
        relays.append(relay)
        return int(transport.get_extra_info("sockname")[1]), relay

    try:
        yield lambda port: asyncio.create_task(make(int(port)))
    finally:
        for relay in relays:
            relay.close()
        await asyncio.sleep(0.05)


FREEZE_MS = 200.0
WATCH = """(() => {
  const video = document.querySelector("video"), clock = () => performance.timeOrigin + performance.now();
  window.gaps = [], window.stalls = [];
  let shown = 0, ran = clock();
  setInterval(() => {
    const now = clock();
    if (now - ran > 20) window.stalls.push([ran + 10, now]);
    ran = now;
  }, 10);
  const look = (now) => {
    const at = performance.timeOrigin + now;
    if (shown && at - shown > 200) window.gaps.push([shown, at]);
    shown = at;
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
})()"""
"""Gaps between pictures, and when the page itself stood still, in milliseconds since the epoch."""


async def stood_still(times: list[tuple[float, float]]) -> None:
    """When this process, which relays, stood still."""
    ran = time.time() * 1000
    while True:
        await asyncio.sleep(0.01)
        now = time.time() * 1000
        if now - ran > 20:
            times.append((ran + 10, now))
        ran = now


def net(gap: tuple[float, float], stalls: Iterable[tuple[float, float]]) -> float:
    """The gap without the time in which the machine had no processor for one of those who are needed."""
    begin, end = gap
    at, lost = begin, 0.0
    for start, stop in sorted(stalls):
        start, stop = max(start, at), min(stop, end)
        if stop > start:
            lost, at = lost + stop - start, stop
    return end - begin - lost


async def test_five_percent_are_lost_and_the_picture_does_not_freeze() -> None:
    chance = random.Random(5)
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        relayed(lambda data: data[0] >= 128 and chance.random() < 0.05) as relay,
        chromium(console(house), *FAKE_DEVICES, ready=READY) as tab,
    ):
        await tab.run(THROUGH)
        await tab.run("document.querySelector('.big').click()")
        port, way = await relay(await tab.until("window.wanted"))
        await tab.run(f"window.found({port})")
        await tab.until("window.visavis.call?.state === 'live' && window.visavis.call.marks.picture")
        call_id = await house.call_id()
        await house.play(call_id, [(0.0, tone(10.0))])
        assert any(card.mouth for card in await cards(tab, 2.0))
        stalls: list[tuple[float, float]] = []
        watching = asyncio.create_task(stood_still(stalls))
        await tab.run(WATCH)
        await asyncio.sleep(8.0)
        watching.cancel()
        gaps = await tab.run("window.gaps")
        stalls += await tab.run("window.stalls")
        inbound = await tab.run(
            "window.visavis.call.peer.getStats().then(all => [...all.values()]"
            ".find(r => r.type === 'inbound-rtp' && r.kind === 'video'))"
        )
        media = await figures(house, call_id)
    assert way.dropped > 20
    assert media["video"]["retransmitted"] > 0
    assert [gap for gap in gaps if net(gap, stalls) > FREEZE_MS] == [], stalls
    assert inbound["framesDecoded"] > 150


async def test_lost_handshakes_are_repeated() -> None:
    chance = random.Random(3)
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        relayed(lambda data: is_dtls(data[0]) and chance.random() < 0.3) as relay,
        chromium(console(house), *FAKE_DEVICES, ready=READY) as tab,
    ):
        await tab.run(THROUGH)
        for _ in range(5):
            await tab.run("window.wanted = null, document.querySelector('.big').click()")
            port, way = await relay(await tab.until("window.wanted"))
            await tab.run(f"window.found({port})")
            await tab.until("window.visavis.call?.state === 'live'", 8)
            assert way.passed
            await tab.run("document.querySelector('.bar .stop').click()")
            await tab.until(
                "window.visavis.call.state === 'ended' && Boolean(document.querySelector('.big:not(:disabled)'))"
            )


async def test_the_network_changes_and_the_call_goes_on() -> None:
    """The way dies; the page restarts ICE over another one, in the same call."""
    dead: set[int] = set()
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        relayed(lambda data: len(dead) == 1) as relay,
        chromium(console(house), *FAKE_DEVICES, ready=READY) as tab,
    ):
        await tab.run(THROUGH)
        await tab.run("document.querySelector('.big').click()")
        wanted = await tab.until("window.wanted")
        port, _ = await relay(wanted)
        await tab.run(f"window.found({port})")
        await tab.until("window.visavis.call?.state === 'live' && window.visavis.call.marks.picture")
        call_id = await house.call_id()
        await tab.run("window.wanted = null")
        dead.add(1)
        again = await tab.until("window.wanted", 15)
        assert again == wanted
        dead.add(2)
        port, _ = await relay(again)
        await tab.run(f"window.found({port})")
        frames = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
        seen = await tab.run(frames)
        await tab.until(f"{frames} > {seen} + 25", 15)
        assert await house.call_id() == call_id
        await house.play(call_id, [(0.0, tone(1.0))])
        assert any(card.mouth for card in await cards(tab, 1.0))
