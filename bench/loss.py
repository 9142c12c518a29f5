"""Calls over a lossy path, measured at the phone: ``python -m bench.loss [--seconds 24] [--rtt-ms 50] [--trace]``

Every picture that the phone shows is compared with the same picture as it was sent: one counts as shown when it
is right and comes no later than 200 ms after it would have come without loss. The voice's beat at the sender is
compared with and without repetitions (``--beat``: only that). ``--receiver gstreamer`` lets GStreamer's rtpbin
receive instead, which sends NACK and PLI of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

from bench.loss_jitter import compare
from testing.caller import CallFailed, Phone
from testing.caller.path import LossyPath
from testing.caller.recording import Stream
from testing.loss_judge import Shown, judge, send_jitter_ms
from testing.loss_receiver import BUFFER_MS, gstreamer_call
from testing.loss_trace import explain
from tests.support.house import House, orchestrator, picture, tone
from tests.support.servers import inference_server

FPS = 25
AFTERWARDS_S = 0.5
VOICE_TICKS = 160
WAYS = {1.0: "random", 3.0: "bursts of 3"}
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

    @property
    def causes(self) -> list[tuple[int, str]]:
        """RTP timestamp and cause of each picture not shown."""
        return [
            (stamp, cause) for stamp, (cause, _) in zip(sorted(self.video.faults), self.stories, strict=True)
        ]

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
    stamps = [p.timestamp for p in path.entered.packets if p.arrived < end]
    due = (stamps[-1] - stamps[0]) // VOICE_TICKS + 1
    came = {p.timestamp for p in voice.packets} & set(stamps)
    return 1 - len(came) / due, path.share_lost(until=end)


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
    seed: int = 3,
) -> LossyCall:
    """One call, speaking half of the time. Without ``asks`` the phone can ask for no key frame either."""
    async with (
        LossyPath(share, rtt / 2, burst=burst, seed=seed) as path,
        LossyPath(share, rtt / 2, burst=burst, seed=seed + 1, clock_rate=8000) as audio,
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
        path.share_lost(),
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


KINDS: tuple[tuple[str, dict[str, bool], str], ...] = (
    ("NACK", {"nack": True}, "keyframes"),
    ("NACK with RTX", {"nack": True, "rtx": True}, "keyframes"),
    ("PLI only", {}, "keyframes"),
    ("asks for nothing", {"asks": False}, "keyframes"),
    ("asks for nothing, intra refresh", {"asks": False}, "intra"),
)
"""Phones: what they can do, and the refresh that the orchestrator is set to."""


async def houses(*refreshes: str) -> AsyncIterator[tuple[str, House]]:
    """Orchestrators, one after another, with the idle loop of the test card in their cache."""
    portrait = picture()
    async with inference_server() as server:
        for refresh in refreshes:
            async with orchestrator([server], portrait=portrait, video_refresh=refresh) as house:
                async with Phone(house.uri):
                    await house.idle_cached(await house.call_id())
                yield refresh, house


async def measure(arguments: argparse.Namespace) -> None:
    """No loss, then every loss with each kind of phone, then the voice's beat."""
    rtt = arguments.rtt_ms / 1000
    kinds = [kind for kind in KINDS if arguments.phone in kind[0]]
    async for refresh, house in houses(*dict.fromkeys(refresh for *_, refresh in kinds)):
        print(f"  0%: {await patiently(house, 0.0, seconds=arguments.seconds, rtt=rtt)}", flush=True)
        for burst, share, kind in itertools.product((1.0, 3.0), arguments.loss, kinds):
            name, options, wanted = kind
            if wanted != refresh:
                continue
            result = await patiently(
                house,
                share,
                seconds=arguments.seconds,
                rtt=rtt,
                burst=burst,
                seed=arguments.seed,
                **options,
            )
            print(f"{share:4.0%} {WAYS[burst]}, {name}: {result}", flush=True)
            causes = Counter(cause for cause, _ in result.stories)
            if causes:
                print("      " + ", ".join(f"{n} {cause}" for cause, n in causes.most_common()))
            if arguments.trace:
                print("".join(f"      {story}\n" for _, story in result.stories), end="", flush=True)


async def measure_beat(arguments: argparse.Namespace) -> None:
    """The voice's beat with and without repetitions."""
    async for _, house in houses("keyframes"):
        print(await compare(house, 0.1, rtt=arguments.rtt_ms / 1000), flush=True)


async def measure_gstreamer(arguments: argparse.Namespace) -> None:
    """Every loss at GStreamer."""
    for burst, share in itertools.product((1.0, 3.0), (0.0, *arguments.loss)):
        received = await gstreamer_call(
            share,
            seconds=arguments.seconds,
            rtt=arguments.rtt_ms / 1000,
            burst=burst,
            buffer_ms=arguments.buffer_ms,
        )
        print(f"{share:4.0%} {WAYS[burst]}: {received}", flush=True)


async def main(arguments: argparse.Namespace) -> None:
    """What was asked for."""
    if arguments.receiver == "gstreamer":
        await measure_gstreamer(arguments)
        return
    if not arguments.beat:
        await measure(arguments)
    await measure_beat(arguments)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=24.0)
    parser.add_argument("--rtt-ms", type=float, default=50.0)
    parser.add_argument("--loss", type=float, nargs="+", default=LOSSES, help="shares, such as 0.05")
    parser.add_argument(
        "--seed", type=int, default=3, help="which packets are lost; 1 loses a call's very first"
    )
    parser.add_argument("--phone", default="", help="only kinds of phone with this in their name")
    parser.add_argument(
        "--trace", action="store_true", help="say of each picture not shown what became of it"
    )
    parser.add_argument(
        "--beat", action="store_true", help="only the voice's beat with and without repetitions"
    )
    parser.add_argument("--receiver", choices=("phone", "gstreamer"), default="phone")
    parser.add_argument("--buffer-ms", type=int, default=BUFFER_MS, help="GStreamer's jitter buffer")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(parser.parse_args()))
