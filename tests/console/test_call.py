"""Calls from the console in a real browser: one click, a face that moves its lips, a microphone that is heard."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from testing.card import CardReading
from testing.ports import free_port
from tests.support.chromium import FAKE_DEVICES, Tab, chromium
from tests.support.credentials import API_TOKEN, token_of
from tests.support.house import House, orchestrator, picture, tone
from tests.support.servers import inference_server

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.peer("chromium")]
READY = "Boolean(document.querySelector('.big:not(:disabled)'))"
CALL = "document.querySelector('.big').click()"
LIVE = "window.visavis.call?.state === 'live' && window.visavis.call.marks.picture"
LOUDNESS = """(async () => {
  const context = new AudioContext(), meter = context.createAnalyser(), samples = new Float32Array(2048);
  context.createMediaStreamSource(new MediaStream(window.visavis.call.media.getAudioTracks())).connect(meter);
  window.loudness = () => (meter.getFloatTimeDomainData(samples),
    Math.sqrt(samples.reduce((s, x) => s + x * x, 0) / 2048));
  return context.state;
})()"""

NO_UDP = """(() => {
  const real = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = function ({type, sdp}) {
    return real.call(this, {type, sdp: sdp.replace(/a=candidate:.* udp .*\\r\\n/g, "")});
  };
})()"""
"""What a firewall does to UDP: an ICE-lite end is reached by nothing but its candidates."""


def console(house: House, port: int | None = None) -> str:
    """The console's URL, as make run prints it."""
    own = house.api.base_url
    return f"{own.scheme}://127.0.0.1:{port or own.port}/#token={API_TOKEN}"


@contextlib.asynccontextmanager
async def in_call(
    house: House, *, port: int | None = None, before: str = "true"
) -> AsyncIterator[tuple[Tab, str]]:
    """A tab with a call whose picture is there, and the call's id; ``before`` is a script that runs before it."""
    async with chromium(console(house, port), *FAKE_DEVICES, ready=READY) as tab:
        await tab.run(before)
        await tab.run(CALL)
        await tab.until(LIVE)
        yield tab, await house.call_id()


async def record_of(house: House, call_id: str, within_s: float) -> dict[str, Any]:
    """The call's record, once it has ended."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        answer = await house.api.get(f"/v1/records/{call_id}")
        if answer.status_code == 200:
            return dict(answer.json())
        await asyncio.sleep(0.02)
    raise AssertionError(f"the call has not ended within {within_s} s")


async def cards(tab: Tab, seconds: float) -> list[CardReading]:
    """What the video element shows for so long."""
    seen, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        if card := await tab.video():
            seen.append(card)
    return seen


async def figures(house: House, call_id: str) -> dict[str, Any]:
    """A call's figures, which come every few seconds."""
    async with asyncio.timeout(10):
        while not (media := (await house.call(call_id))["media"]).get("video"):
            await asyncio.sleep(0.1)
    return dict(media)


async def test_a_whole_call() -> None:
    async with (
        inference_server() as server,
        orchestrator([server], greeting="Hello, this is the greeting.") as house,
        in_call(house) as (tab, call_id),
    ):
        assert (await house.call(call_id))["audio"] == "opus/48000"
        await house.api.put(f"/v1/calls/{call_id}/trace")
        assert await tab.run(LOUDNESS) == "running"
        await tab.until("window.loudness() > 0.01")  # the greeting
        turn = await house.play(call_id, [(0.0, tone(3.0))])
        seen = await cards(tab, 2.5)
        mouths = [card for card in seen if card.mouth is not None]
        # A mouth that came late fades out over the next bodies; any other lies over its own.
        own = [card for card in mouths if card.mouth and card.mouth.loop_index == card.loop_index]
        assert len(own) > len(mouths) / 2
        assert len({card.loop_index for card in seen}) > 3
        assert await tab.run("window.loudness()") > 0.05
        assert (await house.turn(call_id, turn))["heard_ms"] == pytest.approx(3000, abs=1)
        await tab.until("window.loudness() < 0.001")
        media = await figures(house, call_id)
        assert media["audio"]["received_packets"] > 50  # the microphone
        assert media["audio"]["rejected"] == media["video"]["send_errors"] == 0

        await tab.run(
            "[...document.querySelectorAll('.bar button')].find(b => b.textContent === 'Keys').click()"
        )
        await tab.until("Boolean(document.querySelector('.keypad'))")
        await tab.run("document.querySelector('.keypad button:nth-child(5)').click()")
        async with asyncio.timeout(5):
            while not any(entry["event"] == "dtmf" for entry in house.log):
                await asyncio.sleep(0.05)

        frames = "document.querySelector('video').getVideoPlaybackQuality().totalVideoFrames"
        await tab.run("window.visavis.call.hold(true)")
        await asyncio.sleep(0.5)
        held = await tab.run(frames)
        await asyncio.sleep(1.0)
        assert await tab.run(frames) <= held + 2
        await tab.run("window.visavis.call.hold(false)")
        await tab.until(f"{frames} > {held} + 10")

        await tab.run("location.hash = 'calls'")
        await tab.until("Boolean(document.querySelector('.item'))")
        await tab.run("document.querySelector('.item').click()")
        await tab.until("Boolean(document.querySelector('.detail'))")
        await tab.run("document.querySelector('.detail > button').click()")
        await tab.until("Number(document.querySelector('canvas.live')?.dataset.pictures) > 10")
        assert await tab.canvas() is not None
        await tab.run("document.querySelector('.floating .stop').click()")
        record = await record_of(house, call_id, 3.0)
        assert (record["cause"], record["ended_by"], record["srtp"]) == ("bye by peer", "peer", True)
        await tab.until("window.visavis.call.state === 'ended'")
        await tab.run("location.hash = 'records', true")
        await tab.until("Boolean(document.querySelector('.item'))")
        await tab.run("document.querySelector('.item').click()")
        await tab.run("[...document.querySelectorAll('.detail button')].at(-1).click()")
        await tab.until("document.querySelectorAll('.ladder li').length > 4")
        ladder = await tab.run("document.querySelector('.ladder').textContent")
        assert "BYE" in ladder and "a=ice-pwd:(removed)" in ladder


async def test_the_other_end_hangs_up_and_two_tabs_do_not_mind_each_other() -> None:
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        in_call(house) as (tab, call_id),
    ):
        other = await tab.browser.open(console(house))
        await other.until(READY)
        await other.run(CALL)
        await other.until(LIVE)
        await house.api.delete(f"/v1/calls/{call_id}")
        await tab.until("window.visavis.call.state === 'ended'", 5)
        assert (await record_of(house, call_id, 3.0))["cause"] == "api"
        assert await other.run("window.visavis.call.state") == "live"
        assert await cards(other, 0.5)


async def test_a_call_is_transferred_to_another_face() -> None:
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        in_call(house) as (tab, call_id),
    ):
        assert (await house.api.put("/v1/avatars/anna", content=picture(1))).status_code == 200
        answer = await house.api.post(f"/v1/calls/{call_id}/transfer", json={"to": "sip:anna@127.0.0.1"})
        assert answer.json() == {"status": 200}
        assert (await record_of(house, call_id, 3.0))["cause"] == "transferred"
        await tab.until("window.visavis.call.user === 'anna' && window.visavis.call.state === 'live'")
        assert (await house.call(await house.call_id()))["avatar"] == "anna"


async def test_a_token_that_may_only_call_is_enough_to_call() -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        page = f"http://127.0.0.1:{house.api.base_url.port}/#token={token_of('calls:join')}"
        async with chromium(page, *FAKE_DEVICES, ready=READY) as tab:
            await tab.run(CALL)
            await tab.until(LIVE)


async def test_a_tab_that_is_closed_and_one_that_crashes() -> None:
    async with inference_server() as server, orchestrator([server]) as house:
        async with in_call(house) as (tab, call_id):
            await tab.call("Page.navigate", url="about:blank")
            began = time.monotonic()
            record = await record_of(house, call_id, 5.0)
            assert time.monotonic() - began < 1.5
            assert record["cause"] in ("browser left", "bye by peer")
        async with in_call(house) as (tab, call_id):
            tab.browser.process.kill()
            began = time.monotonic()
            record = await record_of(house, call_id, 20.0)
            assert time.monotonic() - began < 12.5
            assert record["cause"] == "browser lost"


@contextlib.asynccontextmanager
async def forwarded(target: int) -> AsyncIterator[int]:
    """One TCP port that leads to another, as ``ssh -L`` makes it; nothing else gets through."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        for way in (pump(reader, back), pump(there, writer)):
            tasks.add(asyncio.create_task(way))
        writers.extend((writer, back))

    port = free_port()
    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield port
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.05)


async def test_page_signalling_and_media_go_through_one_forwarded_tcp_port() -> None:
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        forwarded(house.api.base_url.port or 0) as port,
        in_call(house, port=port, before=NO_UDP) as (tab, call_id),
    ):
        pairs = await tab.run(
            "window.visavis.call.peer.getStats().then(all => [...all.values()].filter(r => r.nominated)"
            ".map(r => [all.get(r.localCandidateId).protocol, all.get(r.remoteCandidateId).port]))"
        )
        assert pairs == [["tcp", port]]
        turn = await house.play(call_id, [(0.0, tone(1.0))])
        assert any(card.mouth for card in await cards(tab, 1.0))
        assert (await house.turn(call_id, turn))["state"] == "finished"
