"""A voice that plays elsewhere: pictures paced by what was fed, with a clock and a server made by hand."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from numpy.typing import NDArray

from visavis.frames import Frame, Rect, frame_at, frame_start
from visavis.playout.pacer import Pacer
from visavis.playout.playback import Playback
from visavis.playout.playout import Picture, Playout

FPS = Fraction(25)
N = 50
TICK = 0.04
RECT = Rect(0, 0, 2, 2)


class Server:
    """A stream whose frames come ``latency`` ticks after their audio and look-ahead are there."""

    def __init__(self, latency: int = 0, look_ahead: int = 0, window: int = 6400) -> None:
        self.latency, self.look_ahead, self.window = latency, look_ahead, window
        self.calls: list[tuple[object, ...]] = []
        self.turn: tuple[int, int] | None = None
        self.fed = self.head = self.next = 0
        self.ended = False
        self.anchors: list[tuple[int, int]] = []
        self.coming: list[tuple[int, Frame]] = []

    def start_turn(self, turn_id: int, epoch: int) -> None:
        self.calls.append(("start", turn_id, epoch))
        self.turn, self.fed, self.head, self.next, self.ended, self.anchors = (
            (turn_id, epoch),
            0,
            0,
            0,
            False,
            [],
        )

    def push_audio(self, pcm: NDArray[np.int16]) -> None:
        self.fed += len(pcm)

    def end_turn(self) -> None:
        self.calls.append(("end", self.turn and self.turn[0], self.fed))
        self.ended = True

    def anchor(self, sample: int, loop_index: int) -> None:
        self.calls.append(("anchor", sample, loop_index))
        self.anchors.append((sample, loop_index))
        if len(self.anchors) > 1:
            self.next = min(self.next, frame_at(sample, FPS))

    def playhead(self, sample: int, playing: bool = True) -> None:
        self.head = sample

    def interrupt(self, epoch: int) -> None:
        self.calls.append(("interrupt", epoch))
        self.turn, self.coming = None, []

    def run(self, now: int, pacer: Pacer) -> None:
        while self.turn and self.anchors:
            start = frame_start(self.next, FPS)
            there = self.ended or frame_start(self.next + 1, FPS) + self.look_ahead <= self.fed
            if not there or start > self.head + self.window or start >= self.fed + frame_start(3, FPS):
                break
            sample, index = next(a for a in reversed(self.anchors) if a[0] <= max(start, a[0] % 640))
            at = (index + self.next - frame_at(sample, FPS)) % N
            last = self.ended and start >= self.fed + frame_start(2, FPS)
            frame = Frame(*self.turn, start, at, "mouth", RECT, b"123456", last)
            self.coming.append((now + self.latency, frame))
            self.next += 1
        for at, frame in [c for c in self.coming if c[0] <= now]:
            self.coming.remove((at, frame))
            pacer.on_frame(frame)


def paced(server: Server, delay_s: float = 0.0) -> Pacer:
    return Pacer(Playout(N, FPS), server, delay_s=delay_s)


def run(pacer: Pacer, server: Server, ticks: int, feed: int = 0) -> list[Picture]:
    pictures = []
    for _ in range(ticks):
        now = pacer.ticks
        if feed:
            pacer.feed(np.zeros(feed, np.int16), now * TICK)
        server.run(now, pacer)
        pictures.append(pacer.tick(now * TICK))
    return pictures


def indices(pictures: list[Picture]) -> list[int]:
    return [p.loop_index for p in pictures]


def test_a_burst_is_shown_in_real_time_and_the_loop_goes_on() -> None:
    server = Server()
    pacer = paced(server)
    idle = run(pacer, server, 7)
    pacer.feed(np.zeros(16000, np.int16), pacer.ticks * TICK)
    pacer.end()
    spoken = run(pacer, server, 25)
    rest = run(pacer, server, 10)
    assert indices(idle + spoken + rest) == [i % N for i in range(42)]
    assert [p.frame.sample for p in spoken if p.frame] == [frame_start(k, FPS) for k in range(25)]
    assert [p.frame is not None for p in rest] == [True] * 3 + [False] * 7
    assert pacer.idle
    assert server.calls == [("start", 1, 0), ("anchor", 0, 7), ("end", 1, 16000)]


def test_a_delay_puts_the_pictures_behind_the_feeding() -> None:
    server = Server()
    pacer = paced(server, delay_s=0.2)
    pacer.feed(np.zeros(16000, np.int16), 0.0)
    pictures = run(pacer, server, 8)
    assert [p.frame is not None for p in pictures] == [False] * 5 + [True] * 3
    assert pacer.offset_s == pytest.approx(0.2)


def test_a_voice_that_falls_silent_without_an_end_is_ended() -> None:
    server = Server(look_ahead=1600)
    pacer = paced(server)
    pacer.feed(np.zeros(16000, np.int16), 0.0)
    run(pacer, server, 40)
    assert ("end", 1, 16000) in server.calls
    assert pacer.idle and pacer.playout.stats.late == 0
    pacer.feed(np.zeros(1600, np.int16), 40 * TICK)
    assert [c for c in server.calls if c[0] == "start"] == [("start", 1, 0), ("start", 2, 0)]


def test_the_next_turn_waits_until_the_one_before_has_been_heard() -> None:
    server = Server()
    pacer = paced(server)
    for _ in range(2):
        pacer.feed(np.zeros(16000, np.int16), 0.0)
        pacer.end()
    pictures = run(pacer, server, 60)
    assert indices(pictures) == [i % N for i in range(60)]
    shown = [(p.frame.turn_id, frame_at(p.frame.sample, FPS)) for p in pictures if p.frame]
    assert shown[:25] == [(1, k) for k in range(25)]
    assert [k for turn, k in shown if turn == 2] == list(range(28))
    assert pacer.idle


def test_audio_fed_in_real_time_falls_behind_by_the_look_ahead_only() -> None:
    server = Server(latency=1, look_ahead=3200)
    pacer = paced(server)
    pictures = run(pacer, server, 100, feed=640)
    assert indices(pictures) == [i % N for i in range(100)]
    assert sum(p.frame is not None for p in pictures[40:]) >= 55
    assert 0.2 <= pacer.offset_s <= 0.4


def test_an_underrun_goes_on_where_the_body_is() -> None:
    server = Server()
    pacer = paced(server)
    pacer.feed(np.zeros(3200, np.int16), 0.0)
    first = run(pacer, server, 6)
    assert [p.frame is not None for p in first] == [True] * 5 + [False]
    pacer.feed(np.zeros(3200, np.int16), 6 * TICK)
    second = run(pacer, server, 5)
    assert [p.frame is not None for p in second] == [True] * 5
    assert indices(first + second) == list(range(11))


def test_a_body_that_moves_before_the_turn_begins_moves_its_anchor() -> None:
    server = Server()
    pacer = paced(server)
    pacer.feed(np.zeros(16000, np.int16), 0.0)
    pacer.playout.tick(None)  # an idle picture that somebody asked for at this very moment
    pictures = run(pacer, server, 20)
    assert server.calls[:3] == [("start", 1, 0), ("anchor", 0, 0), ("anchor", 0, 1)]
    assert sum(p.frame is not None for p in pictures) >= 18


def test_interrupt_rests_with_the_next_picture() -> None:
    server = Server()
    pacer = paced(server)
    pacer.feed(np.zeros(32000, np.int16), 0.0)
    run(pacer, server, 10)
    pacer.interrupt()
    after = run(pacer, server, 5)
    assert [(p.frame, p.hold) for p in after] == [(None, False)] * 5
    assert all(p.fade is None for p in after)
    assert pacer.idle and server.calls[-1] == ("interrupt", 1)
    pacer.feed(np.zeros(3200, np.int16), 15 * TICK)
    assert server.turn == (2, 1)


def test_a_voice_whose_ends_are_told_may_stall() -> None:
    server, playback = Server(), Playback(ends_told=True)
    pacer = Pacer(Playout(N, FPS), server, playback=playback)
    for tick in range(30):
        now = tick * TICK
        if tick < 5 or 15 <= tick < 20:
            pacer.feed(np.zeros(640, np.int16), now)
            playback.report(TICK, TICK, now)
        server.run(tick, pacer)
        pacer.tick(now)
        if tick == 19:
            pacer.end()
    assert [c for c in server.calls if c[0] in ("start", "end")] == [("start", 1, 0), ("end", 1, 6400)]


def test_another_avatar_is_taken_between_turns_and_turns_go_on_counting() -> None:
    first, second = Server(), Server(latency=3)
    pacer = paced(first)
    pacer.feed(np.zeros(16_000, np.int16), 0.0)
    pacer.end()
    run(pacer, first, 3)
    with pytest.raises(RuntimeError, match="between turns"):
        pacer.use(Playout(40, FPS), second)
    run(pacer, first, 40)
    told = list(first.calls)
    pacer.use(Playout(40, FPS), second)
    pacer.feed(np.zeros(16_000, np.int16), pacer.ticks * TICK)
    spoken = run(pacer, second, 20)
    assert first.calls == told and second.calls[0] == ("start", 2, 0)
    assert [p.frame.loop_index for p in spoken if p.frame] and indices(spoken) == list(range(20))
