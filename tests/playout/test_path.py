"""A playout that follows a server's path: the body never jumps, the mouth stays on it, lost frames heal."""

from __future__ import annotations

import random
from collections import deque
from fractions import Fraction

import numpy as np
import pytest

from inference_server.streams.path import BodySegments
from inference_server.streams.turn import TurnFrames
from visavis.frames import Frame, frame_start
from visavis.playout.picture import TurnAnchor
from visavis.playout.playout import Playout

FPS = Fraction(25)
STARTS = (0, 30, 52, 80)
N = 100
JUMPS = tuple(((end - 1) % N, start) for end in STARTS for start in STARTS if end != start)
SEGMENTS = BodySegments(STARTS, N, np.sin(np.arange(N) / 5))


class Call:
    """One turn between a playout and a server's turn, with messages that take ``delay`` ticks each way."""

    def __init__(self, delay: int, seed: int, follows: bool = True) -> None:
        self.playout = Playout(N, FPS, jumps=JUMPS, follows_path=follows)
        self.delay = delay
        self.told: TurnAnchor | None = None
        self.to_server: deque[tuple[int, TurnAnchor]] = deque()
        self.to_client: deque[tuple[int, Frame]] = deque()
        self.lose: set[int] = set()
        self.clock = 0
        self.shown: list[int] = []
        self.mouths = 0
        self.random = random.Random(seed)
        self.server = self.turn()

    def turn(self, render_from: int = 0) -> TurnFrames:
        turn = TurnFrames(
            1,
            0,
            1,
            fps=FPS,
            closing=3,
            window=6400,
            loop_length=N,
            render_from=render_from,
            now=0.0,
            segments=SEGMENTS,
        )
        turn.begin(0, 0.0)
        tone = np.sin(2 * np.pi * 140 * np.arange(16_000 * 30) / 16_000) * 3000
        turn.hear(tone.astype(np.int16))
        turn.received, turn.ready = 16_000 * 30, 750
        return turn

    def begin(self) -> None:
        self._tell(self.playout.begin_turn(1, 0, 4))
        for _ in range(4):
            self.tick(None)

    def _tell(self, anchor: TurnAnchor | None) -> None:
        if anchor is not None and anchor != self.told:
            self.told = anchor
            self.to_server.append((self.clock + self.delay, anchor))

    def _serve(self, sample: int) -> None:
        while self.to_server and self.to_server[0][0] <= self.clock:
            _, anchor = self.to_server.popleft()
            self.server.anchor(anchor.sample, anchor.loop_index)
        if self.server.loop_index(0) == 0 and self.clock < self.delay:
            return  # the first anchor is under way, and the sound is behind it
        self.server.playhead(sample, True, 0.0)
        while (job := self.server.peek()) is not None:
            self.server.take(job, 0.0)
            start = frame_start(job.frame, FPS)
            if job.frame not in self.lose:
                frame = Frame(1, 0, start, job.loop_index, "body", None, None)
                self.to_client.append((self.clock + self.delay, frame))
            self.server.sent(job.frame)

    def tick(self, sample: int | None) -> None:
        self._serve(-640 if sample is None else sample)
        while self.to_client and self.to_client[0][0] <= self.clock:
            self.playout.on_frame(self.to_client.popleft()[1])
        before = self.playout.stats.shown
        picture = self.playout.tick(sample)
        self.mouths += self.playout.stats.shown - before
        self.shown.append(picture.loop_index)
        self._tell(self.playout.anchor)
        self.clock += 1

    def speak(self, first: int, last: int) -> None:
        for k in range(first, last):
            self.tick(frame_start(k, FPS))

    def legal(self) -> bool:
        return all(
            after == (before + 1) % N or (before, after) in JUMPS or (before == after and after in STARTS)
            for before, after in zip(self.shown, self.shown[1:], strict=False)
        )

    @property
    def jumped(self) -> int:
        return sum(pair in JUMPS for pair in zip(self.shown, self.shown[1:], strict=False))


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_the_body_goes_where_frames_say_and_no_mouth_is_lost(delay: int) -> None:
    call = Call(delay, 1)
    call.begin()
    call.speak(0, 500)
    assert call.legal() and call.jumped >= 5
    assert call.mouths >= 500 - 2 * delay
    assert call.playout.stats.misplaced == 0


@pytest.mark.parametrize("seed", range(6))
def test_lost_frames_heal(seed: int) -> None:
    call = Call(2, seed)
    call.begin()
    call.lose = {k for k in range(20, 480) if call.random.random() < 0.03}
    for at in (100, 200, 300):
        call.lose |= set(range(at, at + 12))
    call.speak(0, 500)
    assert call.legal()
    assert call.mouths > 500 - 3 * len(call.lose) - 60


def test_ticks_that_the_clock_missed_lead_to_another_anchor() -> None:
    call = Call(2, 1)
    call.begin()
    call.speak(0, 100)
    call.playout.skip(7)
    gap = len(call.shown)
    call.speak(107, 300)
    call.shown[:gap] = []
    assert call.legal()
    assert call.mouths > 270 - 60


def test_another_server_goes_on_from_what_was_shown() -> None:
    call = Call(2, 1)
    call.begin()
    call.speak(0, 210)
    call.server = call.turn(render_from=frame_start(210, FPS))
    call.to_client.clear()
    call.to_server.clear()
    anchor = call.playout.anchor
    assert anchor is not None
    call.server.anchor(anchor.sample, anchor.loop_index)  # as a stream tells it anew
    call.speak(210, 420)
    assert call.legal()
    assert call.mouths > 420 - 40


def test_a_client_that_does_not_follow_keeps_its_loop() -> None:
    call = Call(1, 1, follows=False)
    call.server._segments = call.server._path = None
    call.begin()
    call.speak(0, 300)
    assert all(after == (before + 1) % N for before, after in zip(call.shown, call.shown[1:], strict=False))
    assert call.mouths >= 296
