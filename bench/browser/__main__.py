"""Calls from a browser: how soon there is a picture and a voice, what they cost a media worker, a burst of them.

    python -m bench.browser [--calls 20] [--age 10] [--cost 4] [--burst 20] [--seconds 15]

Chromium calls from the console over the loopback, with the test card (mock engine). "cost" is the CPU time of the
media worker with so many calls that speak all the time, from Chromium and from plain SIP phones (Opus, H.264), in
the same run. "burst" is so many set-ups a second by a program (SIP over WebSocket, ICE, DTLS), each call two
seconds long, and how late the audio clock was meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import re
import statistics
import time
from pathlib import Path

from testing.caller import Phone
from testing.web_agent import set_up
from tests.console.test_call import CALL, READY, console, record_of
from tests.support.chromium import FAKE_DEVICES, chromium
from tests.support.credentials import API_TOKEN
from tests.support.house import House, orchestrator, tone
from tests.support.servers import inference_server

HEAR = """(async () => {
  const context = new AudioContext(), samples = new Float32Array(256);
  await context.resume();
  window.listenTo = call => {
    const look = setInterval(() => {
      const [track] = call.media.getAudioTracks();
      if (!track || call.meter) return;
      call.meter = context.createAnalyser();
      call.meter.fftSize = 256;
      context.createMediaStreamSource(new MediaStream([track])).connect(call.meter);
    }, 2);
    const hear = setInterval(() => {
      if (!call.meter) return;
      call.meter.getFloatTimeDomainData(samples);
      if (samples.some(one => Math.abs(one) > 0.003)) {
        call.mark("heard");
        clearInterval(hear);
        clearInterval(look);
      }
    }, 4);
  };
  return true;
})()"""


def spread(values: list[float], unit: str = "ms") -> str:
    """Median, 95th percentile, worst."""
    ordered = sorted(values)
    return f"median {statistics.median(values):.0f}, p95 {ordered[int(0.95 * (len(ordered) - 1))]:.0f}, worst {ordered[-1]:.0f} {unit}"  # noqa: E501


async def starts(calls: int) -> None:
    """Calls one after the other."""
    pictures, answers, secured, greetings = [], [], [], []
    lost = 0
    async with (
        inference_server() as server,
        orchestrator([server], greeting="Hello, this is the first word of a call.") as house,
        chromium(console(house), *FAKE_DEVICES, ready=READY) as tab,
    ):
        await tab.run(HEAR)
        for number in range(calls + 1):
            await tab.run(f"{CALL}, true")
            await tab.until(
                "Boolean(window.visavis.call && !window.visavis.call.over && window.visavis.call.peer)"
            )
            await tab.run("window.listenTo(window.visavis.call), true")
            await tab.until("window.visavis.call.marks.picture && window.visavis.call.marks.heard")
            marks = await tab.run("window.visavis.call.marks")
            await asyncio.sleep(1.0)
            call_id = await house.call_id()
            got = await tab.run(
                "window.visavis.call.peer.getStats().then(all => [...all.values()]"
                ".find(r => r.type === 'inbound-rtp' && r.kind === 'audio').packetsReceived)"
            )
            await tab.run("document.querySelector('.bar .stop').click()")
            await tab.until("window.visavis.call.state === 'ended'")
            record = await record_of(house, call_id, 5.0)
            lost = max(lost, record["media"]["audio"]["sent_packets"] - got)
            await tab.until(READY)
            if number:  # the first one warms the microphone, the page and the face
                pictures.append(marks["picture"])
                answers.append(marks["answered"] - marks["invited"])
                secured.append(marks["connected"])
                greetings.append(marks["heard"] - marks["connected"])
    print(f"click to first picture, {calls} calls: {spread(pictures)}")
    print(f"INVITE to 200: {spread(answers)}; click to DTLS: {spread(secured)}")
    print(f"DTLS to the greeting's first sound in the page: {spread(greetings)}")
    print(
        f"voice packets that were sent and not received up to the end of a call: at most {lost} (20 ms each)"
    )


FOLLOW = """(() => {
  const video = document.querySelector("video");
  window.ages = [];
  const look = (now, about) => {
    if (about.captureTime) window.ages.push([about.receiveTime - about.captureTime, about.presentationTime - about.captureTime]);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  return true;
})()"""  # noqa: E501


async def pictures_age(seconds: float) -> None:
    """How old pictures are that the page shows: their time is the clock's, by RTP and sender reports."""
    async with (
        inference_server() as server,
        orchestrator([server]) as house,
        chromium(console(house), *FAKE_DEVICES, ready=READY) as tab,
    ):
        await tab.run(f"{CALL}, true")
        await tab.until("window.visavis.call?.marks.picture")
        await house.play(await house.call_id(), [(0.0, tone(seconds + 6))])
        await asyncio.sleep(5.0)  # sender reports come every few seconds
        await tab.run(FOLLOW)
        await asyncio.sleep(seconds)
        ages = await tab.run("window.ages")
    if not ages:
        print("pictures' age: this browser does not tell")
        return
    print(f"picture due → received, {len(ages)} live pictures: {spread([one[0] for one in ages])}")
    print(f"picture due → on the screen: {spread([one[1] for one in ages])}")


def cpu_of(pid: int) -> float:
    """Seconds of CPU time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def speaking(house: House, seconds: float) -> float:
    """CPU seconds of the worker while every call speaks for so long."""
    (worker,) = (await house.status())["workers"]
    calls = [call["call_id"] for call in (await house.api.get("/v1/calls")).json() if not call["ended_at"]]
    for call in calls:
        await house.play(call, [(0.0, tone(seconds + 3))])
    await asyncio.sleep(1.5)
    before = cpu_of(worker["pid"])
    await asyncio.sleep(seconds)
    return cpu_of(worker["pid"]) - before


async def cost(calls: int, seconds: float) -> None:
    """The same calls from browsers and from phones."""
    used = {}
    async with inference_server() as server, orchestrator([server]) as house:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(calls):
                await stack.enter_async_context(Phone(house.uri, codec="opus"))
            used["phones"] = await speaking(house, seconds)
        await asyncio.sleep(1.0)
        async with chromium(console(house), *FAKE_DEVICES, ready=READY) as tab:
            tabs = [tab, *[await tab.browser.open(console(house)) for _ in range(calls - 1)]]
            for one in tabs:
                await one.until(READY)
                await one.run(f"{CALL}, true")
                await one.until("window.visavis.call?.state === 'live'")
            used["browsers"] = await speaking(house, seconds)
    share = {who: 100 * value / seconds / calls for who, value in used.items()}
    print(
        f"CPU of the worker for a call that speaks: phone {share['phones']:.2f} %, browser "
        f"{share['browsers']:.2f} % of a core ({100 * (used['browsers'] / used['phones'] - 1):+.0f} %)"
    )


async def burst(rate: int, seconds: float) -> None:
    """Set-ups at a rate."""
    async with (
        inference_server() as server,
        orchestrator([server], max_calls=400, records_kept=2000) as house,
        Phone(house.uri),
    ):
        port = house.api.base_url.port or 0
        lateness: list[float] = []
        ended = asyncio.Event()

        async def watch() -> None:
            while not ended.is_set():
                text = (await house.api.get("/metrics")).text
                found = re.findall(r"^visavis_media_lateness_p99_seconds\S* (\S+)", text, re.M)
                lateness.extend(1000 * float(value) for value in found)
                await asyncio.sleep(1.0)

        watching = asyncio.create_task(watch())
        tasks, began = [], time.monotonic()
        for number in range(int(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            tasks.append(asyncio.create_task(set_up(port, API_TOKEN, 2.0)))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        ended.set()
        await watching
    times = [result for result in results if isinstance(result, tuple)]
    print(
        f"{rate} set-ups a second for {seconds:g} s: {len(times)} of {len(results)} succeeded; INVITE to 200 "
        f"{spread([1000 * one[0] for one in times])}, to keys {spread([1000 * one[1] for one in times])}"
    )
    for error in {str(result) for result in results if isinstance(result, BaseException)}:
        print(f"  failed: {error}")
    if lateness:
        print(f"audio clock meanwhile, p99 of each second: {spread(lateness)}")


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--calls", type=int, default=20)
    parser.add_argument("--cost", type=int, default=4)
    parser.add_argument("--burst", type=int, default=20)
    parser.add_argument("--age", type=float, default=10.0, help="seconds of pictures whose age is measured")
    parser.add_argument("--seconds", type=float, default=15.0)
    options = parser.parse_args()
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"{os.cpu_count()} cores, load {load} before the bench")
    if options.calls:
        asyncio.run(starts(options.calls))
    if options.age:
        asyncio.run(pictures_age(options.age))
    if options.cost:
        asyncio.run(cost(options.cost, options.seconds))
    if options.burst:
        asyncio.run(burst(options.burst, options.seconds))


if __name__ == "__main__":
    main()
