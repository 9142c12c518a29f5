"""GStreamer at the end of a lossy path: what it asks for by NACK and PLI, and what it shows."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import MediaSession
from orchestrator.worker.host import HostSettings, MediaHost
from testing.caller.path import LossyPath
from testing.loop_face import LoopFace
from testing.loss_judge import CLOCK_RATE, FREEZE_S, Shown, decode, is_corrupt
from tests.peers.receivers import SIZE, gstreamer
from tests.support.media import card_body, read_card

LOOP, FPS = 1000, 25
LOCAL = "127.0.0.1"
START_S, WARM_UP_S, AFTERWARDS_S = 1.5, 2.5, 0.5
"""On a busy machine GStreamer loses packets of its own while it builds its pipeline: loss begins after that."""
BUFFER_MS = 600
"""Its RTCP keeps the intervals of RFC 4585 section 3.5.3, so that some NACKs come a few hundred ms late."""


@dataclass(frozen=True)
class Received:
    """``nacked``: packets it asked for; ``keyframes``: pictures it asked for.

    ``in_time``: pictures of which every packet had passed the path 100 ms before its jitter buffer gives them up.
    """

    lost: float
    video: Shown
    nacked: int
    retransmitted: int
    keyframes: int
    in_time: int

    def __str__(self) -> str:
        return (
            f"lost {self.lost:5.1%}: {self.video}; asked for {self.nacked} packets, "
            f"got {self.retransmitted} again, asked for {self.keyframes} key frames"
        )


async def gstreamer_call(
    share: float, *, seconds: float, rtt: float, burst: float = 1.0, buffer_ms: int = BUFFER_MS
) -> Received:
    """Numbered pictures to rtpbin; the whole round trip lies on the way there."""
    with tempfile.TemporaryDirectory() as folder:
        async with (
            _media_session() as session,
            gstreamer(Path(folder), (LOCAL, _video_port(session) + 1), buffer_ms) as receiver,
            LossyPath(share, rtt, burst=burst) as path,
        ):
            await asyncio.sleep(START_S)
            port = await path.open(LOCAL, receiver.port + 2)
            session.update(
                AudioParameters("PCMU", 0, (LOCAL, receiver.port)),
                VideoParameters(96, (LOCAL, port), *SIZE, feedback=frozenset({"nack", "nack pli"})),
            )
            path.lossy = False
            session.start()
            await asyncio.sleep(WARM_UP_S)
            path.lossy, begin = True, time.monotonic()
            before = asked(session)
            await asyncio.sleep(seconds)
            end = time.monotonic()
            await asyncio.sleep(AFTERWARDS_S)
            counts = asked(session)
            session.stop()
            await asyncio.sleep(1.0)
            pictures = receiver.pictures()
    decoded = decode(path.entered.ordered())
    right = {read_card(luma): (luma, at) for luma, at in decoded.values()}
    numbered = {number for number, (_, at) in right.items() if begin <= at < end}
    good, corrupt = set(), 0
    for picture in pictures:
        number = read_card(picture)
        if number not in right or is_corrupt(picture, right[number][0]):
            corrupt += number in numbered or number not in right
        elif number in numbered:
            good.add(number)
    moments = sorted(good)
    gaps = [(b - a) / FPS for a, b in itertools.pairwise(moments) if (b - a) / FPS > FREEZE_S]
    punctual = in_time(path, buffer_ms / 1000 - 0.1) & decoded.keys()
    missing = len(numbered) - len(good) - corrupt
    shown = Shown(len(numbered), len(good), corrupt, 0, max(0, missing), float(np.sum(gaps)))
    nacked, retransmitted, keyframes = (late - early for late, early in zip(counts, before, strict=True))
    whole = len(numbered & {read_card(decoded[stamp][0]) for stamp in punctual})
    return Received(path.share_lost(begin, end), shown, nacked, retransmitted, keyframes, whole)


def in_time(path: LossyPath, within_s: float) -> set[int]:
    """RTP timestamps of the pictures whose packets had all passed so many seconds after they were usually due."""
    first: dict[tuple[int, int], float] = {}
    passed: dict[tuple[int, int], float] = {}
    for crossing in path.crossings:
        packet = (crossing.timestamp, crossing.sequence)
        first.setdefault(packet, crossing.at)
        if not crossing.lost:
            passed.setdefault(packet, crossing.at)
    usual = float(np.median([at - stamp / CLOCK_RATE for (stamp, _), at in first.items()]))
    late = {
        packet[0]
        for packet in first
        if passed.get(packet, np.inf) - packet[0] / CLOCK_RATE - usual > within_s
    }
    return {stamp for stamp, _ in first} - late


@contextlib.asynccontextmanager
async def _media_session() -> AsyncIterator[MediaSession]:
    """A call of a host of its own, which is closed whatever happens."""
    host = MediaHost(HostSettings())
    host.start()
    try:
        yield host.session(face=LoopFace(card_body(LOOP, *SIZE)))
    finally:
        await host.close()


def _video_port(session: MediaSession) -> int:
    assert session.video_port
    return session.video_port


def asked(session: MediaSession) -> tuple[int, int, int]:
    """Packets asked for and sent again, and key frames asked for, so far."""
    assert session.video
    history = session.video.repeater.history
    return history.asked, history.repeated, session.video.keyframes.count
