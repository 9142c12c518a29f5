"""Hostile pages in a real browser: nothing that one does reaches a service of ours, and it reads nothing."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.peers.peers import require
from tests.support.chromium import Tab, chromium
from tests.support.credentials import API_TOKEN, FLEET_TOKEN
from tests.support.house import House, orchestrator
from tests.support.servers import running_server

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("chromium")]

EVIL, REBOUND = "evil.example", "rebound.example"

ATTACK = """
(async (base, token) => {
  const seen = {};
  const note = async (name, act) => {
    try { seen[name] = await act(); } catch (error) { seen[name] = 'nothing'; }
  };
  const read = async (path, options) => {
    const answer = await fetch(base + path, options);
    return answer.type === 'opaque' ? 'nothing' : answer.status + ' ' + (await answer.text()).slice(0, 80);
  };
  await note('read', () => read('/v1/calls'));
  await note('probe', () => read('/healthz'));
  await note('metrics', () => read('/metrics'));
  await note('simple post', () => read('/v1/calls/x/interrupt', {method: 'POST', mode: 'no-cors'}));
  await note('json', () => read('/v1/calls', {method: 'POST', body: '{"to": "sip:a@127.0.0.1"}',
    headers: {'Content-Type': 'application/json'}}));
  await note('as text', () => read('/v1/calls', {method: 'POST', mode: 'no-cors',
    body: '{"to": "sip:a@127.0.0.1"}', headers: {'Content-Type': 'text/plain'}}));
  await note('put', () => read('/v1/avatars/evil', {method: 'PUT', body: 'x'}));
  await note('with the token', () => read('/v1/calls', {headers: {Authorization: 'Bearer ' + token}}));
  for (const path of ['/metrics', '/v1/calls', '/docs/swagger-ui-bundle.js'])
    await note('script ' + path, () => new Promise((loaded, failed) => {
      const script = document.createElement('script');
      script.onload = () => loaded('loaded');
      script.onerror = failed;
      script.src = base + path;
      document.head.append(script);
    }));
  for (const path of ['/v1/converse', '/ws/stream', '/v1/sip'])
    await note('socket ' + path, () => new Promise((opened, failed) => {
      const socket = new WebSocket(base.replace('http', 'ws') + path, ['visavis', 'sip', 'visavis.token.' + token]);
      socket.onopen = () => opened('opened');
      socket.onerror = failed;
    }));
  await note('frame', () => new Promise((shown, failed) => {
    const frame = document.createElement('iframe');
    frame.onload = () => { try { shown(frame.contentDocument.body.innerText.slice(0, 80) || 'nothing'); }
                           catch (error) { failed(error); } };
    frame.src = base + '/docs';
    document.body.append(frame);
  }));
  return JSON.stringify(seen);
})"""
"""Everything that a page can try, and what came of it."""


@contextlib.contextmanager
def hostile() -> Iterator[int]:
    """A web server of somebody else's; its port."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<!DOCTYPE html><html><head></head><body>nice pictures</body></html>"
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


async def attack(tab: Tab, base: str, token: str) -> dict[str, str]:
    return dict(json.loads(await tab.run(f"{ATTACK}({json.dumps(base)}, {json.dumps(token)})")))


def flag(*names: str) -> str:
    """These names are this machine, and no other name is anything."""
    rules = [f"MAP {name} 127.0.0.1" for name in names]
    return "--host-resolver-rules=" + ", ".join([*rules, "MAP * ~NOTFOUND", "EXCLUDE 127.0.0.1"])


async def untouched(house: House) -> None:
    """Nothing was dialled, nobody was stored."""
    assert (await house.api.get("/v1/calls")).json() == []
    avatars = (await house.api.get("/v1/avatars")).json()
    assert [a["name"] for a in avatars if not a["built_in"]] == ["default"]


async def test_a_page_of_another_origin_has_no_effect_and_reads_nothing() -> None:
    require("chromium", "chromium")
    with hostile() as port:
        async with (
            running_server(slots=2) as server,
            orchestrator(server.address) as house,
            chromium(f"http://{EVIL}:{port}/", flag(EVIL)) as tab,
        ):
            api = str(house.api.base_url).rstrip("/")
            for base, token in ((api, API_TOKEN), (f"http://127.0.0.1:{server.http_port}", FLEET_TOKEN)):
                seen = await attack(tab, base, token)
                assert set(seen.values()) == {"nothing"}, seen
            await untouched(house)


async def test_a_rebound_name_has_no_effect_and_reads_nothing() -> None:
    """The page is of the same origin as the service: its name has come to mean this machine."""
    require("chromium", "chromium")
    async with running_server(slots=2) as server, orchestrator(server.address) as house:
        for port, path in ((house.api.base_url.port, "/docs"), (server.http_port, "/docs")):
            base = f"http://{REBOUND}:{port}"
            async with chromium(base + path, flag(REBOUND)) as tab:
                await tab.until("document.body.innerText.includes('is not known as')")
                assert await tab.run("location.origin") == base
                seen = await attack(tab, base, "visavis_a-guess-a-guess")
                reads = {name: value for name, value in seen.items() if value != "nothing"}
                assert all(
                    value.startswith(("401", "403")) or "is not known" in value for value in reads.values()
                ), seen
        await untouched(house)


async def test_the_documentation_works_with_the_token_of_its_address() -> None:
    """Under its own strict policy, with nothing from elsewhere; and the token leaves the address bar."""
    require("chromium", "chromium")
    async with running_server(slots=2) as server, orchestrator(server.address) as house:
        page = f"{house.api.base_url}/docs#token={API_TOKEN}".replace("//docs", "/docs")
        async with chromium(page) as tab:
            await tab.until("document.querySelectorAll('.opblock').length > 10")
            assert await tab.run("location.hash") == ""
            assert await tab.run("sessionStorage.getItem('visavis-token')") == API_TOKEN
            await tab.run(
                "[...document.querySelectorAll('.opblock-summary-path')].find(e => "
                "e.textContent.replaceAll('\\u200b', '') === '/v1/status').click()"
            )
            await tab.until("!!document.querySelector('.try-out__btn')")
            await tab.run("document.querySelector('.try-out__btn').click()")
            await tab.until("!!document.querySelector('.btn.execute')")
            await tab.run("document.querySelector('.btn.execute').click()")
            await tab.until(
                "(document.querySelector('.live-responses-table') || {innerText: ''})"
                ".innerText.includes('talking_face')"
            )
