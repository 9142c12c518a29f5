"""What stands between a browser and the orchestrator: TLS, a reverse proxy, a TURN server."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest

from testing.web_agent import set_up
from tests.console.test_call import CALL, LIVE, READY, cards, console, in_call
from tests.peers.certificates import Authority
from tests.peers.coturn import turn_server
from tests.peers.nginx import nginx
from tests.support.chromium import FAKE_DEVICES, Tab, chromium
from tests.support.credentials import API_TOKEN
from tests.support.house import House, orchestrator, tone
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow]
SELF_MADE = "--ignore-certificate-errors"
NAMED = "--host-resolver-rules=MAP calls.test 127.0.0.1"
RELAYED = """(() => {
  const Real = RTCPeerConnection;
  window.RTCPeerConnection = class extends Real {
    constructor(options) { super({...options, iceTransportPolicy: "relay"}); }
  };
})()"""
"""What a network does that lets nothing out but to its TURN server."""


async def ways(tab: Tab) -> list[list[str]]:
    """Type of the browser's candidate, and protocol of ours, of each nominated pair, once there is one."""
    async with asyncio.timeout(10):
        while True:
            pairs: list[list[str]] = await tab.run(
                "window.visavis.call.peer.getStats().then(all => [...all.values()].filter(r => r.nominated)"
                ".map(r => [all.get(r.localCandidateId).candidateType, all.get(r.remoteCandidateId).protocol]))"
            )
            if pairs:
                return pairs
            await asyncio.sleep(0.1)


async def speaks(house: House, tab: Tab, call_id: str) -> bool:
    """Whether a turn is heard to its end, and lips are seen that move."""
    turn = await house.play(call_id, [(0.0, tone(1.0))])
    moved = any(card.mouth for card in await cards(tab, 1.0))
    return moved and bool((await house.turn(call_id, turn))["state"] == "finished")


@pytest.mark.peer("chromium", "openssl")
async def test_the_api_has_tls_of_its_own(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("calls.test")
    async with (
        inference_server() as server,
        orchestrator([server], api_tls_certificate=certificate, api_tls_key=key) as house,
        chromium(console(house), *FAKE_DEVICES, SELF_MADE, ready=READY) as tab,
    ):
        await tab.run(CALL)
        await tab.until(LIVE)
        assert await speaks(house, tab, await house.call_id())
        assert {protocol for _, protocol in await ways(tab)} == {"udp"}


@pytest.mark.peer("chromium", "nginx", "openssl")
async def test_a_reverse_proxy_with_tls_stands_before_it(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("calls.test")
    async with (
        inference_server() as server,
        orchestrator([server], api_hosts="calls.test", api_proxies="127.0.0.1/32") as house,
        nginx(tmp_path, house.api.base_url.port or 0, certificate, key) as port,
    ):
        page = f"https://calls.test:{port}/#token={API_TOKEN}"
        async with chromium(page, *FAKE_DEVICES, SELF_MADE, NAMED, ready=READY) as tab:
            await tab.run(CALL)
            await tab.until(LIVE)
            assert await speaks(house, tab, await house.call_id())
            await tab.run("document.querySelector('.bar .stop').click()")
            await tab.until("window.visavis.call.state === 'ended'")


@pytest.mark.peer("nginx", "openssl")
async def test_who_calls_is_told_by_named_proxies_alone(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).issue("calls.test")
    context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    async with inference_server() as server:
        for proxies, source in (("127.0.0.1/32", "127.0.0.9"), ("", "127.0.0.1")):
            async with (
                orchestrator([server], api_hosts="calls.test", api_proxies=proxies) as house,
                nginx(tmp_path, house.api.base_url.port or 0, certificate, key) as port,
            ):
                api = house.api.base_url.port or 0
                way: dict[str, Any] = {"ssl": context, "local_addr": ("127.0.0.9", 0)}
                await set_up(api, API_TOKEN, 0.1, url=f"wss://127.0.0.1:{port}/v1/sip", **way)
                forged = {"headers": {"X-Forwarded-For": "192.0.2.7"}, "local_addr": ("127.0.0.8", 0)}
                await set_up(api, API_TOKEN, 0.1, **forged)
                async with asyncio.timeout(5):
                    while len(records := (await house.api.get("/v1/records")).json()) < 2:
                        await asyncio.sleep(0.05)
                assert {record["source"] for record in records} == {source, "127.0.0.8"}


@pytest.mark.peer("chromium", "turnserver")
@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_nothing_gets_out_but_to_a_turn_server(tmp_path: Path, transport: str) -> None:
    secret = "of-the-tests-for-turn"
    async with turn_server(tmp_path, secret) as port:
        turn = f"turn:127.0.0.1:{port}?transport={transport}"
        async with (
            inference_server() as server,
            orchestrator([server], web_ice_servers=turn, web_turn_secret=secret) as house,
            in_call(house, before=RELAYED) as (tab, call_id),
        ):
            assert await ways(tab) == [["relay", "udp"]]
            assert await speaks(house, tab, call_id)
