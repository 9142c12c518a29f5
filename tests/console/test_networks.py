"""Browsers in networks of their own: behind NAT, by IPv6, and one that moves to another network in a call."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.console.test_call import CALL, LIVE, READY, cards
from tests.console.test_ways import speaks
from tests.peers.namespaces import Namespaces, masquerade, needed
from tests.support.chromium import FAKE_DEVICES, Tab, chromium
from tests.support.credentials import API_TOKEN
from tests.support.house import House, orchestrator, tone
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("chromium", "ip", "nft")]
CORE, ROUTER, HOME = "10.78.0.1", "10.78.0.2", "192.168.51"
CORE6, HOME6 = "fd78::1", "fd78::2"


@pytest.fixture
def net() -> Iterator[Namespaces]:
    needed()
    with Namespaces() as namespaces:
        for name in ("core", "home"):
            namespaces.add(name)
        yield namespaces


@contextlib.asynccontextmanager
async def in_call(
    net: Namespaces, any_host: str, url_host: str, **settings: object
) -> AsyncIterator[tuple[House, Tab]]:
    """A call from a browser in "home" to an orchestrator in "core", where the test is as well."""
    with net.entered("core"):
        async with contextlib.AsyncExitStack() as stack:
            server = await stack.enter_async_context(inference_server())
            house = await stack.enter_async_context(
                orchestrator([server], api_host=any_host, **{"sip_host": any_host, **settings})
            )
            origin = f"http://{url_host}:{house.api.base_url.port}"
            flags = (
                *FAKE_DEVICES,
                f"--unsafely-treat-insecure-origin-as-secure={origin}",  # for the microphone
                "--host-resolver-rules=",  # there is no resolver to keep it from
            )
            with net.entered("home"):
                tab = await stack.enter_async_context(
                    chromium(f"{origin}/#token={API_TOKEN}", *flags, ready=READY)
                )
            await tab.run(CALL)
            await tab.until(LIVE)
            yield house, tab


def behind_nat(net: Namespaces) -> str:
    """Home has a router; the name of its own end of the cable."""
    net.add("router")
    net.link("core", f"{CORE}/24", "router", f"{ROUTER}/24")
    _, end = net.link("router", f"{HOME}.1/24", "home", f"{HOME}.2/24")
    net.route("home", f"{HOME}.1")
    net.forward("router", masquerade(f"ip saddr {HOME}.0/24"))
    return end


async def addresses(tab: Tab) -> tuple[str, str]:
    """The browser's own address as the orchestrator sees it, and the orchestrator's, of the pair in use."""
    own, other = await tab.run(
        "window.visavis.call.peer.getStats().then(all => [...all.values()].filter(r => r.nominated)"
        ".map(r => [all.get(r.localCandidateId).address, all.get(r.remoteCandidateId).address]).at(-1))"
    )
    return own, other


@pytest.mark.parametrize("settings", [{}, {"sip_host": "::", "web_udp_port": 3478}])
async def test_a_browser_behind_nat(net: Namespaces, settings: dict[str, object]) -> None:
    """Also with one UDP port for all calls, on a socket for IPv4 and IPv6."""
    behind_nat(net)
    async with in_call(net, "0.0.0.0", CORE, **settings) as (house, tab):
        assert await speaks(house, tab, await house.call_id())
        assert await addresses(tab) == (ROUTER, CORE)


async def test_ipv6(net: Namespaces) -> None:
    for name in ("core", "home"):  # no time for detecting duplicates
        net.inside(name, "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad")
    net.link("core", f"{CORE6}/64", "home", f"{HOME6}/64")
    async with in_call(net, "::", f"[{CORE6}]") as (house, tab):
        assert await speaks(house, tab, await house.call_id())
        assert await addresses(tab) == (HOME6, CORE6)


async def test_a_browser_moves_to_another_network(net: Namespaces) -> None:
    end = behind_nat(net)
    async with in_call(net, "0.0.0.0", CORE) as (house, tab):
        call_id = await house.call_id()
        frames = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
        net.inside("home", "ip", "addr", "flush", "dev", end)
        net.inside("home", "ip", "addr", "add", f"{HOME}.77/24", "dev", end)
        net.route("home", f"{HOME}.1")
        before = await tab.run(frames)
        await tab.until(f"{frames} > {before} + 50", 25)
        assert await house.call_id() == call_id
        await house.play(call_id, [(0.0, tone(1.0))])
        assert any(card.mouth for card in await cards(tab, 1.0))
        assert await addresses(tab) == (ROUTER, CORE)
