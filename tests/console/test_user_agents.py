"""JsSIP and SIP.js, unmodified, on pages of their own; and a page that nobody has allowed."""

from __future__ import annotations

import asyncio

import pytest

from tests.console.test_call import cards, record_of
from tests.peers.npm import bundle
from tests.support.chromium import FAKE_DEVICES, chromium
from tests.support.credentials import API_TOKEN
from tests.support.house import House, orchestrator, tone
from tests.support.pages import pages
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow]
PAGE = """<!doctype html><title>agent</title><video autoplay playsinline></video>
<script src="/agent.js"></script><script src="/page.js"></script>"""
JSSIP = """
const socket = new JsSIP.WebSocketInterface(SOCKET);
const agent = new JsSIP.UA({sockets: [socket], uri: "sip:page@agents.invalid", register: false});
agent.on("newRTCSession", ({session}) => {
  window.session = session;
  session.on("confirmed", () => window.state = "live");
  session.on("ended", ({originator}) => window.state = `ended by ${originator}`);
  session.on("failed", ({cause}) => window.state = `failed: ${cause}`);
  session.connection.addEventListener("track", () => {
    const receivers = session.connection.getReceivers().map(one => one.track);
    document.querySelector("video").srcObject = new MediaStream(receivers);
  });
});
agent.start();
window.go = () => agent.call("sip:default@agents.invalid", {mediaConstraints: {audio: true, video: true}});
window.hold = () => new Promise(done => session.hold({}, () => done(true)));
window.resume = () => new Promise(done => session.unhold({}, () => done(true)));
window.stop = () => session.terminate();
window.key = () => session.sendDTMF("7", {transportType: "RFC2833"});
window.ready = () => agent.isConnected();
"""
SIPJS = """
const agent = new SIP.UserAgent({uri: SIP.UserAgent.makeURI("sip:page@agents.invalid"),
                                 transportOptions: {server: SOCKET}, logBuiltinEnabled: false});
let up = false, inviter;
agent.start().then(() => up = true, error => window.state = `failed: ${error}`);
window.go = async () => {
  inviter = new SIP.Inviter(agent, SIP.UserAgent.makeURI("sip:default@agents.invalid"),
                            {sessionDescriptionHandlerOptions: {constraints: {audio: true, video: true}}});
  inviter.stateChange.addListener(state => {
    window.state = state === "Established" ? "live" : state === "Terminated" ? "ended by remote" : state;
    if (state === "Established") {
      const tracks = inviter.sessionDescriptionHandler.peerConnection.getReceivers().map(one => one.track);
      document.querySelector("video").srcObject = new MediaStream(tracks);
    }
  });
  await inviter.invite();
};
window.hold = async () => (await inviter.invite({sessionDescriptionHandlerModifiers: [d => (d.sdp = d.sdp.replace(/a=sendrecv/g, "a=inactive"), Promise.resolve(d))]}), true);
window.resume = async () => (await inviter.invite({sessionDescriptionHandlerModifiers: []}), true);
window.stop = () => inviter.bye();
window.key = () => inviter.sessionDescriptionHandler.sendDtmf("7");
window.ready = () => up;
"""  # noqa: E501


def socket_of(house: House) -> str:
    """With the token in it, for agents that can send no other credential."""
    return f"ws://127.0.0.1:{house.api.base_url.port}/v1/sip?access_token={API_TOKEN}"


@pytest.mark.peer("chromium", "npm")
@pytest.mark.parametrize(("name", "script"), [("JsSIP", JSSIP), ("SIP", SIPJS)])
async def test_unmodified_agents_call(name: str, script: str) -> None:
    agent = bundle(name)
    files = {"/": PAGE, "/agent.js": agent}
    with pages(files) as origin:
        async with inference_server() as server, orchestrator([server], api_origins=origin) as house:
            files["/page.js"] = f"const SOCKET = '{socket_of(house)}';{script}"
            async with chromium(f"{origin}/", *FAKE_DEVICES) as tab:
                await tab.until("window.ready && window.ready()")
                await tab.run("void window.go()")
                await tab.until("window.state === 'live'")
                await tab.until("document.querySelector('video').videoWidth > 0")
                call_id = await house.call_id()
                await house.play(call_id, [(0.0, tone(1.5))])
                assert any(card.mouth for card in await cards(tab, 1.5))
                await tab.run("void window.key()")
                async with asyncio.timeout(5):
                    while not any(entry["event"] == "dtmf" for entry in house.log):
                        await asyncio.sleep(0.05)
                frames = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
                assert await tab.run("window.hold()")
                await asyncio.sleep(0.7)
                held = await tab.run(frames)
                await asyncio.sleep(0.7)
                assert await tab.run(frames) <= held + 2
                assert await tab.run("window.resume()")
                await tab.until(f"{frames} > {held} + 10")
                await house.api.delete(f"/v1/calls/{call_id}")
                await tab.until("window.state === 'ended by remote'")
                await tab.run("void window.go()")
                await tab.until("window.state === 'live'")
                again = await house.call_id()
                await tab.run("void window.stop()")
                record = await record_of(house, again, 5)
                assert record["ended_by"] == "peer" or record["cause"] == "browser left"
            assert not any(API_TOKEN in str(entry) for entry in house.log)


HOSTILE = """
const tried = {};
const socket = (path, ...protocols) => new Promise(done => {
  const one = new WebSocket(HOST.replace("http", "ws") + path, protocols);
  one.onopen = () => done("open");
  one.onclose = () => done("closed");
});
window.attack = async () => ({
  bare: await socket("/v1/sip", "sip"),
  token: await socket("/v1/sip", "sip", "visavis.token." + TOKEN),
  view: await socket("/v1/calls/c1/view", "visavis", "visavis.token." + TOKEN),
  events: await fetch(HOST + "/v1/events", {headers: {Authorization: `Bearer ${TOKEN}`}}).then(r => r.status, () => "failed"),
  listen: await fetch(HOST + "/v1/recordings/c1", {headers: {Authorization: `Bearer ${TOKEN}`}}).then(r => r.status, () => "failed"),
  status: await fetch(HOST + "/v1/status", {headers: {Authorization: `Bearer ${TOKEN}`}}).then(r => r.status, () => "failed"),
  blind: await fetch(HOST + "/v1/calls", {mode: "no-cors", method: "POST", body: "{}"}).then(r => r.type, () => "failed"),
  frame: await new Promise(done => {
    const frame = document.createElement("iframe");
    frame.onload = () => { let seen = null; try { seen = frame.contentDocument && frame.contentDocument.body.innerHTML } catch { seen = null } done(seen) };
    frame.src = HOST + "/";
    document.body.append(frame);
  }),
});
"""  # noqa: E501


@pytest.mark.peer("chromium")
async def test_a_page_of_another_origin_can_neither_call_nor_listen_nor_read() -> None:
    files = {"/": '<!doctype html><body><script src="/page.js"></script></body>'}
    with pages(files) as origin:
        async with orchestrator(["127.0.0.1:1"], wait=False) as house:
            await house.answering()
            host = f"http://127.0.0.1:{house.api.base_url.port}"
            files["/page.js"] = f"const HOST = '{host}', TOKEN = '{API_TOKEN}';{HOSTILE}"
            async with chromium(f"{origin}/", *FAKE_DEVICES) as tab:
                result = await tab.run("window.attack()")
            assert (result["bare"], result["token"], result["view"]) == ("closed", "closed", "closed")
            assert (result["status"], result["events"], result["listen"]) == ("failed", "failed", "failed")
            assert not result["frame"]
            assert (await house.api.get("/v1/calls")).json() == []
