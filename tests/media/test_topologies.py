"""Voice and picture reach the phone, and nobody else, whatever lies between: NAT, an exchange, a proxy, Docker."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from testing.caller.media import MediaSockets, addresses
from testing.caller.phone import offer
from testing.caller.recording import Recording
from testing.caller.signalling import Dialog
from testing.ports import free_port
from tests.peers.kamailio import command
from tests.peers.namespaces import Namespaces, masquerade, needed, publish
from tests.support.house import House, orchestrator

pytestmark = [pytest.mark.peer, pytest.mark.process]
CORE, OUTSIDE, EXCHANGE, PROXY, STRANGER = (
    "10.77.0.1",
    "10.77.0.2",
    "10.77.0.3",
    "10.77.0.4",
    "10.77.0.66",
)
HOME = "192.168.50.2"


@pytest.fixture
def net() -> Iterator[Namespaces]:
    needed()
    with Namespaces() as namespaces:
        yield namespaces


@dataclass
class Call:
    """A phone whose signalling and media may live in different places."""

    recording: Recording
    media: MediaSockets
    ports: dict[str, tuple[str, int]]
    voice_from: int = 0
    picture_from: int = 0

    def mark(self) -> None:
        """Count from here on."""
        self.voice_from, self.picture_from = (
            len(self.recording.audio.packets),
            len(self.recording.video.packets),
        )

    @property
    def voice(self) -> int:
        """Packets since the mark."""
        return len(self.recording.audio.packets) - self.voice_from

    @property
    def picture(self) -> int:
        """Packets since the mark."""
        return len(self.recording.video.packets) - self.picture_from


@contextlib.asynccontextmanager
async def called(
    net: Namespaces, uri: str, media: tuple[str, str], signalling: tuple[str, str] | None = None
) -> AsyncIterator[Call]:
    """A call whose ends are ``(namespace, address)``; its camera sends as well, as that of a video phone."""
    signalling = signalling or media
    recording = Recording()
    async with contextlib.AsyncExitStack() as stack:
        with net.entered(media[0]):
            sockets = await MediaSockets.open(media[1], recording)
        stack.callback(sockets.close)
        with net.entered(signalling[0]):
            dialog = await stack.enter_async_context(Dialog(uri, signalling[1]))
        answer = await dialog.invite(offer(media[1], sockets.audio_port, sockets.video_port))
        sockets.connect(answer)
        camera = asyncio.create_task(film(sockets, addresses(answer)["video"]))
        stack.callback(camera.cancel)
        yield Call(recording, sockets, addresses(answer))


def rtp(kind: int, number: int, ssrc: int) -> bytes:
    return struct.pack("!BBHII", 0x80, kind, number & 0xFFFF, number * 160, ssrc) + bytes(160)


async def film(sockets: MediaSockets, remote: tuple[str, int]) -> None:
    """A camera at ten packets a second."""
    number = 0
    while True:
        sockets._transports[2].sendto(rtp(96, number, 77), remote)
        number += 1
        await asyncio.sleep(0.1)


async def sprayed(net: Namespaces, where: str, ports: dict[str, tuple[str, int]], seconds: float) -> int:
    """Packets that an uninvited sender gets back for a steady spray at both streams."""
    with net.entered(where):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    got = number = 0
    with sock:
        for _ in range(round(seconds / 0.02)):
            for kind, remote in (("audio", ports["audio"]), ("video", ports["video"])):
                sock.sendto(rtp(0 if kind == "audio" else 96, number, 99), remote)
            number += 1
            await asyncio.sleep(0.02)
            with contextlib.suppress(BlockingIOError):
                while True:
                    sock.recv(2048)
                    got += 1
    return got


async def until(call: Call, voice: int, picture: int, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while call.voice < voice or call.picture < picture:
            await asyncio.sleep(0.05)


async def reaches_only_the_phone(net: Namespaces, call: Call) -> None:
    """All of it arrives, a stranger gets nothing beside it, nor when the phone says nothing any more."""
    await until(call, 75, 20)
    assert await sprayed(net, "stranger", call.ports, 1.0) == 0
    call.media.mute()
    await asyncio.sleep(2.5)
    call.mark()
    assert await sprayed(net, "stranger", call.ports, 2.0) == 0
    await until(call, 25, 5)


@contextlib.asynccontextmanager
async def answering(net: Namespaces, where: str = "core", **settings: object) -> AsyncIterator[House]:
    with net.entered(where):
        async with orchestrator(
            [f"127.0.0.1:{free_port()}"], wait=False, sip_host="0.0.0.0", **settings
        ) as house:
            await house.answering()
            yield house


def street(net: Namespaces, *others: tuple[str, str]) -> None:
    """The orchestrator, a stranger and others on one network."""
    for name in ("core", "stranger", *(name for name, _ in others)):
        net.add(name)
    members = {"stranger": f"{STRANGER}/24"} | {name: f"{own}/24" for name, own in others}
    net.bridge("core", f"{CORE}/24", members)


def home(net: Namespaces) -> None:
    """A phone behind a router, whose outer end is on the street."""
    street(net, ("router", OUTSIDE), ("proxy", PROXY))
    net.add("phone")
    net.link("router", "192.168.50.1/24", "phone", f"{HOME}/24")
    net.route("phone", "192.168.50.1")
    net.forward("router", masquerade("ip saddr 192.168.50.0/24"))


async def test_a_plain_phone(net: Namespaces) -> None:
    street(net, ("phone", OUTSIDE))
    async with (
        answering(net) as house,
        called(net, f"sip:demo@{CORE}:{house.sip_port}", ("phone", OUTSIDE)) as call,
    ):
        await reaches_only_the_phone(net, call)


async def test_a_phone_behind_nat(net: Namespaces) -> None:
    home(net)
    async with (
        answering(net) as house,
        called(net, f"sip:demo@{CORE}:{house.sip_port}", ("phone", HOME)) as call,
    ):
        await reaches_only_the_phone(net, call)


async def test_one_exchange_for_all(net: Namespaces) -> None:
    """It signals for phones whose media are their own."""
    street(net, ("phone", OUTSIDE), ("exchange", EXCHANGE))
    async with (
        answering(net) as house,
        called(net, f"sip:demo@{CORE}:{house.sip_port}", ("phone", OUTSIDE), ("exchange", EXCHANGE)) as call,
    ):
        await reaches_only_the_phone(net, call)


@pytest.mark.slow
@pytest.mark.parametrize("media_from", [f"{OUTSIDE}/32", ""])
async def test_a_phone_behind_nat_behind_a_proxy(net: Namespaces, tmp_path: Path, media_from: str) -> None:
    home(net)
    async with (
        answering(net, media_from=media_from) as house,
        kamailio(net, tmp_path, house.sip_port) as port,
        called(net, f"sip:demo@{PROXY}:{port}", ("phone", HOME)) as call,
    ):
        await reaches_only_the_phone(net, call)


async def test_a_network_that_is_not_named_gets_half_a_second(net: Namespaces, tmp_path: Path) -> None:
    """And three times what came: here from the phone itself, which is not believed to be the call's."""
    home(net)
    async with (
        answering(net, media_from="none") as house,
        kamailio(net, tmp_path, house.sip_port) as port,
        called(net, f"sip:demo@{PROXY}:{port}", ("phone", HOME)) as call,
    ):
        await asyncio.sleep(3.0)
        assert call.voice == call.picture == 0
        stats = (await house.call(await house.call_id()))["media"]
        assert stats["audio"]["strays"] > 0 and stats["audio"]["stray_source"] == OUTSIDE
        assert stats["video"]["sent_packets"] == 0 and stats["video"]["withheld"] > 0


@pytest.mark.parametrize("hidden", [False, True])
async def test_docker_s_nat(net: Namespaces, hidden: bool) -> None:
    """The orchestrator in a container with published ports; ``hidden``: callers look like the bridge itself."""
    street(net, ("phone", OUTSIDE))
    net.add("container")
    net.link("core", "172.30.0.1/24", "container", "172.30.0.2/24")
    net.route("container", "172.30.0.1")
    low = 25000
    inwards = " ip daddr 172.30.0.2 masquerade;" if hidden else ""
    rules = masquerade(f"ip saddr 172.30.0.0/24 oifname != br0 masquerade;{inwards} ip saddr 172.30.0.0/24")
    net.forward("core", f"{rules}\n{publish(f'5060, {low}-{low + 399}', '172.30.0.2')}")
    settings = {"sip_port": 5060, "rtp_port_min": low, "rtp_port_max": low + 399, "advertised_address": CORE}
    async with (
        answering(net, "container", **settings),
        called(net, f"sip:demo@{CORE}:5060", ("phone", OUTSIDE)) as call,
    ):
        await until(call, 75, 20)
        if not hidden:
            await reaches_only_the_phone(net, call)


@contextlib.asynccontextmanager
async def kamailio(net: Namespaces, folder: Path, sip_port: int) -> AsyncIterator[int]:
    """The proxy with the configuration that is shipped; yields its port."""
    port = 5070
    destinations = folder / "dispatcher.list"
    destinations.write_text(f"1 sip:{CORE}:{sip_port} 0 0\n")
    log = (folder / "log").open("wb")
    with net.entered("proxy"):
        process = await asyncio.create_subprocess_exec(
            *command(f"udp:{PROXY}:{port}", destinations),
            *("-DD", "-E", "-m", "32", "-M", "4", "-Y", str(folder), "-P", str(folder / "pid")),
            stderr=log,
            stdout=log,
            start_new_session=True,
        )
    try:
        await asyncio.sleep(3.5)
        assert process.returncode is None, (folder / "log").read_text()
        yield port
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 30)
        log.close()
