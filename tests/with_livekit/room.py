"""A room without a network, and what an avatar's runner hands to it; all else is LiveKit's own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
from livekit import rtc
from livekit.agents.voice.avatar import AvatarOptions, AvatarRunner, QueueAudioOutput
from livekit.agents.voice.io import PlaybackFinishedEvent, PlaybackStartedEvent
from numpy.typing import NDArray

from testing.card import CardReading, read_card
from tests.support.house import picture
from visavis import AvatarSource, ServerPool
from visavis.livekit import VisavisVideoGenerator

SIZE, FPS, RATE = 320, 25, 24_000


class Publication:
    """Whoever subscribes has done so."""

    def __init__(self, track: Any) -> None:
        self.track, self.kind, self.sid = track, track.kind, f"track-{track.kind}"

    async def wait_for_subscription(self) -> None:
        return


class Participant:
    """The agent's own."""

    identity = sid = "agent"
    kind = rtc.ParticipantKind.PARTICIPANT_KIND_AGENT

    def __init__(self) -> None:
        self.track_publications: dict[str, Publication] = {}

    async def set_attributes(self, attributes: dict[str, str]) -> None:
        """Nobody reads them."""

    async def send_bytes(self, *data: object, **options: object) -> None:
        """Nobody reads them."""

    def register_rpc_method(self, *method: object) -> None:
        """Nobody calls it."""

    def unregister_rpc_method(self, *method: object) -> None:
        """Nobody calls it."""

    async def publish_track(self, track: Any, options: Any) -> Publication:
        publication = Publication(track)
        self.track_publications[publication.sid] = publication
        return publication


class Room(rtc.Room):
    """LiveKit's own, without a server: connected from the beginning."""

    name = "room"
    local_participant = Participant()

    def __init__(self) -> None:
        super().__init__()
        self.local_participant = Participant()

    def isconnected(self) -> bool:
        return True


def card_of(frame: rtc.VideoFrame) -> CardReading | None:
    """What the test card of a picture says."""
    luma = np.frombuffer(frame.data, np.uint8)[: frame.width * frame.height]
    return read_card(luma.reshape(frame.height, frame.width))


@dataclass
class Show:
    """``pushed``: pictures' cards and sounds as they went to LiveKit's synchronizer, in order."""

    output: QueueAudioOutput
    runner: AvatarRunner
    pushed: list[CardReading | NDArray[np.int16] | None] = field(default_factory=list)
    captured: list[float] = field(default_factory=list)
    started: list[PlaybackStartedEvent] = field(default_factory=list)
    finished: list[PlaybackFinishedEvent] = field(default_factory=list)

    @property
    def sounds(self) -> list[NDArray[np.int16]]:
        return [each for each in self.pushed if isinstance(each, np.ndarray)]

    @property
    def cards(self) -> list[CardReading | None]:
        return [each for each in self.pushed if not isinstance(each, np.ndarray)]

    def offsets(self) -> list[int]:
        """Of every picture with a mouth and a sound: frame of the mouth less frame of the sound."""
        found, samples = [], 0
        for before, after in zip(self.pushed, self.pushed[1:], strict=False):
            if not isinstance(after, np.ndarray):
                continue
            if isinstance(before, CardReading) and before.mouth is not None:
                found.append(before.mouth.frame - round(samples * FPS / RATE))
            samples += len(after)
        return found

    async def say(self, sound: NDArray[np.int16], end: bool = True, rate: int = RATE) -> None:
        """As an agent does, at once."""
        for at in range(0, len(sound), rate // 10):
            piece = sound[at : at + rate // 10]
            await self.output.capture_frame(rtc.AudioFrame(piece.tobytes(), rate, 1, len(piece)))
        if end:
            self.output.flush()

    async def until(self, what: Any, seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not what():
                await asyncio.sleep(0.01)


def watch(show: Show) -> None:
    """Note what goes to the synchronizer, and from it to the source."""
    push, source = show.runner.av_sync.push, show.runner._video_source
    capture = source.capture_frame

    async def pushed(frame: rtc.VideoFrame | rtc.AudioFrame, timestamp: float | None = None) -> None:
        is_sound = isinstance(frame, rtc.AudioFrame)
        show.pushed.append(np.frombuffer(frame.data, np.int16) if is_sound else card_of(frame))
        await push(frame, timestamp)

    def captured(frame: rtc.VideoFrame, **options: Any) -> None:
        show.captured.append(asyncio.get_running_loop().time())
        capture(frame, **options)

    show.runner.av_sync.push = pushed
    source.capture_frame = captured


@contextlib.asynccontextmanager
async def show(servers: str | ServerPool, seed: int = 0, judged: bool = True) -> AsyncIterator[Show]:
    """A face in a room: generator, runner, queue and synchronizer. ``judged``: what they are handed is noted."""
    source = AvatarSource(picture(seed), SIZE, SIZE, Fraction(FPS))
    async with VisavisVideoGenerator(servers, source, sample_rate=RATE) as generator:
        output = QueueAudioOutput(sample_rate=RATE, wait_playback_start=True)
        options = AvatarOptions(SIZE, SIZE, FPS, RATE, 1)
        runner = AvatarRunner(Room(), audio_recv=output, video_gen=generator, options=options)
        there = Show(output, runner)
        if judged:
            watch(there)
        output.on("playback_started", there.started.append)
        output.on("playback_finished", there.finished.append)
        await runner.start()
        try:
            yield there
        finally:
            output._data_ch.close()
            await runner.aclose()
