"""Calls over a lossy path, measured at the phone: ``python -m bench.loss [--seconds 20] [--rtt-ms 50]``

Every picture that the phone shows is compared with the same picture as it was sent: one counts as shown when it
is right and comes no later than 200 ms after it would have come without loss. ``--receiver gstreamer`` lets
GStreamer's rtpbin receive instead, which sends NACK and PLI of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import time
from dataclasses import dataclass

from bench.caller import CallFailed, Phone
from bench.caller.path import LossyPath
from bench.caller.recording import Stream
from bench.loss_judge import Shown, judge, send_jitter_ms
from bench.loss_receiver import gstreamer_call
from bench.loss_trace import explain
from tests.support.house import House, orchestrator, picture, tone
from tests.support.servers import inference_server

FPS = 25
AFTERWARDS_S = 0.5
VOICE_TICKS = 160
LOSSES = (0.01, 0.03, 0.05, 0.10)


@dataclass(frozen=True)
class LossyCall:
    """One call. Shares are of packets; ``audio_lost`` as the phone counted, ``audio_path`` as the path did."""

    lost: float
    video: Shown
    stories: list[tuple[str, str]]
    audio_lost: float
    audio_path: float
    jitter_ms: tuple[float, float]
    asked: int
    recovered: int
    rtx: int
    kilobits: float
    limit: int

    @property
    def share(self) -> float:
        """Of the pictures sent, those shown right and in time."""
        return self.video.share

    def __str__(self) -> str:
        return (
            f"lost {self.lost:5.1%}: {self.video}; "
            f"asked for {self.asked}, recovered {self.recovered} ({self.rtx} in RTX); "
            f"{self.kilobits:.0f} kbit/s, limit {self.limit / 1000:.0f} at the end; "
            f"audio lost {self.audio_lost:.2%} where the path lost {self.audio_path:.2%}, "
            f"sent {self.jitter_ms[0]:.1f} ms off beat (p99 {self.jitter_ms[1]:.1f})"
        )


def voice_lost(path: LossyPath, voice: Stream, end: float) -> tuple[float, float]:
    """Shares that the phone has not got of the sound that was due, and that the path lost, up to ``end``.

    Counted in what was sent, not between what came: a burst at the end of a call is lost as well.
    """
    sent = [c for c in path.crossings if c.at < end]
    stamps = [p.timestamp for p in path.entered.packets if p.arrived < end]
    due = (stamps[-1] - stamps[0]) // VOICE_TICKS + 1
    came = {p.timestamp for p in voice.packets} & set(stamps)
    return 1 - len(came) / due, sum(c.lost for c in sent) / len(sent)


async def lossy_call(
    house: House,
    share: float,
    *,
    seconds: float,
    rtt: float,
    nack: bool = False,
    rtx: bool = False,
    asks: bool = True,
    burst: float = 1.0,
) -> LossyCall:
    """One call, speaking half of the time. Without ``asks`` the phone can ask for no key frame either."""
    async with (
        LossyPath(share, rtt / 2, burst=burst) as path,
        LossyPath(share, rtt / 2, burst=burst, seed=2, clock_rate=8000) as audio,
        Phone(
            house.uri,
            path=path,
            audio_path=audio,
            nack=nack,
            rtx=rtx,
            feedback=("nack pli", "ccm fir") if asks else (),
        ) as phone,
    ):
        call = await house.call_id()
        await asyncio.sleep(1.0)
        for _ in range(max(1, round(seconds / 6))):
            turn = await house.play(call, [(0.0, tone(3.0))])
            await house.turn(call, turn)
            await asyncio.sleep(3.0)
        repair, end = phone.repair, time.monotonic()
        await asyncio.sleep(AFTERWARDS_S)
        figures = (await house.call(call))["media"]
        recording = phone.recording
    shown = judge(path.entered, recording.video, FPS, end)
    return LossyCall(
        path.measured,
        shown,
        explain(shown, path, recording.video, repair),
        *voice_lost(audio, recording.audio, end),
        send_jitter_ms(audio.entered),
        repair.asked if repair else 0,
        repair.recovered if repair else 0,
        phone.rtx_packets,
        path.entered.octets * 8 * FPS / shown.pictures / 1000,
        figures["video_bitrate"],
    )


async def patiently(house: House, share: float, **options: float | bool) -> LossyCall:
    """The same, again while the orchestrator refuses calls for other work on the machine."""
    for _ in range(20):
        with contextlib.suppress(CallFailed):
            return await lossy_call(house, share, **options)  # type: ignore[arg-type]
        await asyncio.sleep(3.0)
    raise SystemExit("the orchestrator stays overloaded: measure on a machine with less to do")


async def measure(seconds: float, rtt: float) -> None:
    """No loss, then every loss with NACK, with PLI, and for phones that can ask for nothing."""
    portrait = picture()
    kinds: tuple[tuple[str, dict[str, bool], str], ...] = (
        ("NACK", {"nack": True}, "keyframes"),
        ("NACK with RTX", {"nack": True, "rtx": True}, "keyframes"),
        ("PLI only", {}, "keyframes"),
        ("asks for nothing", {"asks": False}, "keyframes"),
        ("asks for nothing, intra refresh", {"asks": False}, "intra"),
    )
    async with inference_server() as server:
        for refresh in ("keyframes", "intra"):
            async with orchestrator([server], portrait=portrait, video_refresh=refresh) as house:
                async with Phone(house.uri):
                    await house.idle_cached(await house.call_id())
                if refresh == "keyframes":
                    print(f"  0%: {await patiently(house, 0.0, seconds=seconds, rtt=rtt)}", flush=True)
                for burst, share, kind in itertools.product((1.0, 3.0), LOSSES, kinds):
                    name, options, wanted = kind
                    if wanted != refresh:
                        continue
                    result = await patiently(house, share, seconds=seconds, rtt=rtt, burst=burst, **options)
                    way = "random" if burst == 1 else f"bursts of {burst:.0f}"
                    print(f"{share:4.0%} {way}, {name}: {result}", flush=True)


async def measure_gstreamer(seconds: float, rtt: float) -> None:
    """Every loss at GStreamer."""
    for burst, share in itertools.product((1.0, 3.0), (0.0, *LOSSES)):
        way = "random" if burst == 1 else f"bursts of {burst:.0f}"
        print(
            f"{share:4.0%} {way}: {await gstreamer_call(share, seconds=seconds, rtt=rtt, burst=burst)}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rtt-ms", type=float, default=50.0)
    parser.add_argument("--receiver", choices=("phone", "gstreamer"), default="phone")
    arguments = parser.parse_args()
    run = measure if arguments.receiver == "phone" else measure_gstreamer
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(run(arguments.seconds, arguments.rtt_ms / 1000))
