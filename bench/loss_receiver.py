"""GStreamer at the end of a lossy path: what it asks for by NACK and PLI, and what it shows."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.caller.path import LossyPath
from bench.loss_judge import FREEZE_S, Shown, decode, is_corrupt
from orchestrator.media.host import HostSettings, MediaHost
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.sources import LoopFace
from tests.support.media import card_body, read_card
from tests.support.receivers import SIZE, gstreamer

LOOP, FPS = 1000, 25
LOCAL = "127.0.0.1"
BUFFER_MS = 600
"""Its RTCP keeps the intervals of RFC 4585 section 3.5.3, so that some NACKs come a few hundred ms late."""


@dataclass(frozen=True)
class Received:
    """``nacked``: packets it asked for; ``keyframes``: pictures it asked for."""

    lost: float
    video: Shown
    nacked: int
    retransmitted: int
    keyframes: int

    def __str__(self) -> str:
        return (
            f"lost {self.lost:5.1%}: {self.video}; asked for {self.nacked} packets, "
            f"got {self.retransmitted} again, asked for {self.keyframes} key frames"
        )


async def gstreamer_call(share: float, *, seconds: float, rtt: float, burst: float = 1.0) -> Received:
    """Numbered pictures to rtpbin; the whole round trip lies on the way there."""
    host = MediaHost(HostSettings())
    host.start()
    session = host.session(face=LoopFace(card_body(LOOP, *SIZE)))
    assert session.video and session.video_port
    with tempfile.TemporaryDirectory() as folder:
        feedback = (LOCAL, session.video_port + 1)
        async with (
            gstreamer(Path(folder), feedback, BUFFER_MS) as receiver,
            LossyPath(share, rtt, burst=burst) as path,
        ):
            await asyncio.sleep(1.5)
            port = await path.open(LOCAL, receiver.port + 2)
            session.update(
                AudioParameters("PCMU", 0, (LOCAL, receiver.port)),
                VideoParameters(96, (LOCAL, port), *SIZE, feedback=frozenset({"nack", "nack pli"})),
            )
            session.start()
            await asyncio.sleep(seconds)
            counts, keyframes = session.video.repeater.history, session.video.keyframes.count
            session.stop()
            await asyncio.sleep(1.0)
            pictures = receiver.pictures()
    await host.close()
    right = [luma for _, (luma, _) in sorted(decode(path.entered.ordered()).items())]
    numbered = {read_card(luma): luma for luma in right}
    good, corrupt = set(), 0
    for picture in pictures:
        number = read_card(picture)
        if number in numbered and not is_corrupt(picture, numbered[number]):
            good.add(number)
        else:
            corrupt += 1
    moments = sorted(good)
    gaps = [(b - a) / FPS for a, b in itertools.pairwise(moments) if (b - a) / FPS > FREEZE_S]
    missing = len(numbered) - len(good) - corrupt
    shown = Shown(len(numbered), len(good), corrupt, 0, max(0, missing), float(np.sum(gaps)), len(good))
    return Received(path.measured, shown, counts.asked, counts.repeated, keyframes)
