"""One call over a lossy path, and every picture that its phone shows beside the same picture as it was sent."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from testing.caller import Phone
from testing.caller.path import LossyPath
from testing.caller.recording import Stream
from testing.loss_judge import Shown, judge, send_jitter_ms
from testing.loss_trace import explain
from tests.support.house import House, tone

FPS = 25
AFTERWARDS_S = 0.5
VOICE_TICKS = 160


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
