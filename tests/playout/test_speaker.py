"""Turns on the media clock: where audio starts, what an underrun and an interruption do."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visavis.client.start_delay import StartDelay
from visavis.frames import SAMPLE_RATE, Frame, Rect, frame_start
from visavis.playout.loop import IdleVariation
from visavis.playout.playout import Picture, Playout
from visavis.playout.speaker import Speaker
from visavis.playout.turn import PCM, TurnEvent

LOOP = 40
RATE = 8000


class Face:
    """Remembers what the avatar was told and answers every frame at once, from the audio it has."""

    look_ahead = 0
    """Samples that a frame needs beyond its own."""

    def __init__(self, fps: Fraction, playout: Playout) -> None:
        self.fps, self.playout = fps, playout
        self.samples = 0
        self.turn, self.epoch = 0, 0
        self.anchors: list[tuple[int, int]] = []
        self.playheads: list[int] = []
        self.ended = False
        self.rendered = 0

    def start_turn(self, turn_id: int, epoch: int) -> None:
        self.turn, self.epoch, self.samples, self.ended = turn_id, epoch, 0, False
        self.anchors = []
        self.rendered = 0

    def push_audio(self, pcm: PCM) -> None:
        self.samples += len(pcm)
        self._render()

    def end_turn(self) -> None:
        self.ended = True
        self._render()

    def anchor(self, sample: int, loop_index: int) -> None:
        self.anchors.append((sample, loop_index))
        self.rendered = min(self.rendered, int(sample * self.fps / SAMPLE_RATE + Fraction(1, 2)))
        self._render()

    def playhead(self, sample: int, playing: bool) -> None:
        self.playheads.append(sample)

    def interrupt(self, epoch: int) -> None:
        self.epoch = epoch

    def _render(self) -> None:
        if not self.anchors:
            return
        sample, index = self.anchors[-1]
        first = int(sample * self.fps / SAMPLE_RATE + Fraction(1, 2))
        while True:
            k = self.rendered
            last = self.ended and frame_start(k, self.fps) >= self.samples
            needed = frame_start(k + 1, self.fps) + self.look_ahead
            if not last and needed > self.samples and not self.ended:
                return
            rect = Rect(0, 0, 2, 2)
            frame = Frame(
                self.turn,
                self.epoch,
                frame_start(k, self.fps),
                (index + k - first) % LOOP,
                "body" if last else "mouth",
                None if last else rect,
                None if last else bytes(6),
                last,
            )
            self.playout.on_frame(frame)
            self.rendered += 1
            if last:
                return


class Call:
    """Plays a call by hand: packets and ticks in the order that the clock gives."""

    def __init__(
        self, fps: int = 25, *, jumps: Sequence[tuple[int, int]] = (), seed: str = "", **kwargs: int
    ) -> None:
        self.fps = Fraction(fps)
        self.jumps = jumps
        self.playout = Playout(LOOP, self.fps, jumps=jumps, choose_jump=IdleVariation(LOOP, seed))
        self.face = Face(self.fps, self.playout)
        self.events: list[TurnEvent] = []
        self.speaker = Speaker(
            rate=RATE,
            fps=self.fps,
            avatar=self.face,
            playout=self.playout,
            start_delay=StartDelay(self.fps),
            emit=self.events.append,
            **kwargs,
        )
        self.sound: list[PCM] = []
        self.pictures: list[Picture] = []
        self.packet = 0

    def run(self, ms: int, *, video: bool = True) -> None:
        for _ in range(ms // 20):
            while video and len(self.pictures) / self.fps * 1000 <= self.packet * 20:
                self.pictures.append(self.speaker.tick(len(self.pictures)))
            heard = self.speaker.read(self.packet)
            self.sound.append(heard if heard is not None else np.zeros(RATE // 50, np.int16))
            self.packet += 1

    def say(self, turn_id: int, ms: int, *, value: int = 1000, start: bool = True, end: bool = True) -> None:
        if start:
            self.speaker.start_turn(turn_id)
        self.speaker.feed(turn_id, np.full(16 * ms, value, np.int16), np.full(8 * ms, value, np.int16))
        if end:
            self.speaker.end_turn(turn_id)

    @property
    def heard(self) -> PCM:
        return np.concatenate(self.sound)

    def path(self) -> list[tuple[int, int]]:
        """Steps of the body so far."""
        return list(itertools.pairwise(picture.loop_index for picture in self.pictures))

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def assert_body_never_jumps(self) -> None:
        assert all((b - a) % LOOP == 1 or (a, b) in self.jumps for a, b in self.path())
        for picture in self.pictures:
            assert picture.frame is None or picture.frame.loop_index == picture.loop_index


@pytest.mark.parametrize("fps", [25, 30])
def test_voice_and_mouth_start_at_the_same_tick(fps: int) -> None:
    call = Call(fps)
    call.run(1000)
    call.say(1, 1000)
    call.run(3000)
    first = int(np.flatnonzero(call.heard)[0])
    mouth = next(n for n, picture in enumerate(call.pictures) if picture.frame is not None)
    assert abs(first / RATE - float(mouth / call.fps)) < 1e-3
    assert np.count_nonzero(call.heard) == 8000
    assert call.kinds() == ["started", "finished"]
    assert call.events[-1].heard_ms == 1000
    assert call.events[0].wait_ms <= 300 + 1000 / fps
    call.assert_body_never_jumps()


def test_every_frame_is_shown_while_its_sound_is_heard() -> None:
    call = Call()
    call.say(1, 800)
    call.run(2000)
    start = int(np.flatnonzero(call.heard)[0])
    for n, picture in enumerate(call.pictures):
        if picture.frame is not None and picture.frame.kind == "mouth":
            assert picture.frame.sample / SAMPLE_RATE == pytest.approx(n / 25 - start / RATE, abs=1e-3)
    assert call.playout.stats.late == 0


@pytest.mark.parametrize(("fps", "trim_ms"), [(25, 0), (30, 0), (25, 80), (25, -80)])
def test_a_first_turn_that_is_ready_before_anything_is_heard_starts_at_once(fps: int, trim_ms: int) -> None:
    call = Call(fps, trim_ms=trim_ms)
    call.say(1, 800)
    assert not call.speaker.expects_lips
    call.speaker.hurry()
    call.speaker.hurry()
    call.run(2000)
    first = int(np.flatnonzero(call.heard)[0])
    ticks = 1 if trim_ms >= 0 else 3
    assert first / RATE == pytest.approx(ticks / fps, abs=1e-3)
    mouth = next(n for n, picture in enumerate(call.pictures) if picture.frame is not None)
    assert mouth / fps - first / RATE == pytest.approx(trim_ms / 1000, abs=1e-3)
    assert call.playout.stats.late == call.playout.stats.dropped == 0
    call.assert_body_never_jumps()


def test_lips_are_expected_before_anything_was_heard_and_a_call_that_runs_is_not_hurried() -> None:
    slow, running = Call(), Call()
    assert not slow.speaker.expects_lips
    slow.face.playout = Playout(LOOP, slow.fps)  # no frame comes
    slow.say(1, 800)
    assert slow.speaker.expects_lips
    slow.run(1000)
    assert not slow.speaker.expects_lips
    running.run(1000)
    running.say(1, 800)
    running.speaker.hurry()
    running.run(2000)
    wait = int(np.flatnonzero(running.heard)[0]) / RATE - 1.0
    assert wait == pytest.approx(StartDelay(running.fps).ticks / running.fps, abs=1e-3)
    running.assert_body_never_jumps()


@pytest.mark.parametrize("after", range(4))
def test_a_turn_that_starts_around_a_jump_is_drawn_for_the_body_on_screen(after: int) -> None:
    """Both ends hold the same loop index however near to a jump the turn begins."""
    jumps = [(13, 26), (13, 0), (25, 0), (25, 14), (LOOP - 1, 14), (LOOP - 1, 26)]
    call = Call(jumps=jumps, seed=f"call {after}")
    while not [pair for pair in call.path() if pair in jumps] or call.path()[-1 - after] not in jumps:
        call.run(40)
    call.say(1, 900)
    call.run(1800)
    call.assert_body_never_jumps()
    anchor = call.face.anchors[0]
    start = next(n for n, picture in enumerate(call.pictures) if picture.frame is not None)
    assert anchor == (0, call.pictures[start].loop_index)
    assert call.playout.stats.late == call.playout.stats.misplaced == 0
    spoken = [picture.loop_index for picture in call.pictures[start : start + 20]]
    assert all((b - a) % LOOP == 1 for a, b in itertools.pairwise(spoken))


@settings(max_examples=30, deadline=None)
@given(
    first=st.integers(1, 700),
    gap=st.integers(0, 900),
    rest=st.integers(20, 700),
    fps=st.sampled_from([25, 30]),
)
def test_an_underrun_is_anchored_anew(first: int, gap: int, rest: int, fps: int) -> None:
    call = Call(fps)
    call.run(200)
    call.say(1, first, end=False)
    call.run(first + gap)
    call.say(1, rest, start=False)
    call.run(rest + 2500)
    assert np.count_nonzero(call.heard) == 8 * (first + rest)
    call.assert_body_never_jumps()
    assert call.kinds()[-1] == "finished"
    heard = np.flatnonzero(call.heard)
    for n, picture in enumerate(call.pictures):  # some sound of a frame is heard while it is on screen
        if picture.frame is not None and picture.frame.kind == "mouth":
            first_sample = picture.frame.sample * RATE // SAMPLE_RATE
            covered = heard[first_sample : first_sample + RATE // fps] / RATE
            assert not len(covered) or np.abs(covered - n / fps).min() <= 1 / fps


def test_the_wait_is_from_the_first_sound_on_however_long_that_took_to_come() -> None:
    call = Call()
    call.speaker.start_turn(1)
    call.run(2000)
    call.say(1, 500, start=False)
    call.run(1000)
    started = int(np.flatnonzero(call.heard)[0]) * 1000 / RATE - 2000
    assert call.events[0].kind == "started"
    assert call.events[0].wait_ms == pytest.approx(started, abs=41)
    assert started < 400


def test_interrupt_is_silent_from_the_next_packet_and_reports_what_was_heard() -> None:
    call = Call()
    call.say(1, 2000)
    call.say(2, 500)
    call.run(1000)
    before = np.count_nonzero(call.heard)
    call.speaker.interrupt()
    call.run(500)
    assert np.count_nonzero(call.heard) == before
    after = call.pictures[25:]
    assert all(picture.frame is None for picture in after)
    assert all(picture.fade is None and not picture.hold for picture in after)
    assert [(e.kind, e.turn_id) for e in call.events[-2:]] == [("interrupted", 1), ("interrupted", 2)]
    assert call.events[-2].heard_ms == before / 8
    assert call.face.epoch == call.speaker.epoch == 2
    call.say(3, 200)
    call.run(1500)
    assert call.kinds()[-1] == "finished"
    call.assert_body_never_jumps()


@given(
    before=st.integers(0, 50).map(lambda n: 20 * n),
    chunk=st.sampled_from([20, 60, 100, 200]),
    ahead=st.integers(0, 10),
    fps=st.sampled_from([25, 30]),
)
@settings(deadline=None, max_examples=60)
def test_interrupt_at_any_moment_while_the_sound_is_being_made(
    before: int, chunk: int, ahead: int, fps: int
) -> None:
    """Also before the first packet and in the first 100 ms; what is made of the turn afterwards is thrown away."""
    call = Call(fps)
    call.run(200)
    call.say(1, (1 + ahead) * chunk, end=False)
    for _ in range(before // chunk):
        call.run(chunk)
        call.say(1, chunk, start=False, end=False)
    call.run(before % chunk)
    heard, shown = np.count_nonzero(call.heard), len(call.pictures)
    call.speaker.interrupt()
    for _ in range(5):
        call.say(1, chunk, start=False, end=False)
        call.run(chunk)
    assert np.count_nonzero(call.heard) == heard
    assert all(picture.frame is None and not picture.hold for picture in call.pictures[shown:])
    assert call.kinds()[-1] == "interrupted"
    assert call.events[-1].heard_ms == heard / 8
    call.speaker.end_turn(1)
    call.say(2, 200)
    call.run(1500)
    assert call.kinds()[-2:] == ["started", "finished"]
    assert np.count_nonzero(call.heard) == heard + 8 * 200
    call.assert_body_never_jumps()


def test_turns_speak_one_after_the_other() -> None:
    call = Call()
    call.say(1, 300, value=100)
    call.say(2, 300, value=200)
    call.run(3000)
    assert call.kinds() == ["started", "finished", "started", "finished"]
    values = call.heard[np.flatnonzero(call.heard)]
    assert list(values) == [100] * 2400 + [200] * 2400


def test_hold_pauses_the_turn() -> None:
    call = Call()
    call.say(1, 1000)
    call.run(600)
    call.packet += 50  # on hold no packet is sent for a second
    call.run(2500)
    assert np.count_nonzero(call.heard) == 8000
    call.assert_body_never_jumps()
    assert call.kinds()[-1] == "finished"


@pytest.mark.parametrize("video", [True, False])
@pytest.mark.parametrize("before_ms", [60, 600])
def test_pictures_of_a_turn_on_hold_are_not_late(video: bool, before_ms: int) -> None:
    """Nor are they before the server, which drops what the playhead has passed; afterwards lips and voice agree."""
    call = Call()
    call.say(1, 4000)
    call.run(before_ms)
    held = len(call.pictures)
    for index in range(held, held + 50):
        if video:  # the voice alone is on hold
            call.speaker.tick(index)
    call.packet += 100
    call.pictures += [Picture(0)] * 50
    call.run(6000)
    assert np.count_nonzero(call.heard) == 32_000
    assert call.kinds()[-1] == "finished"
    assert call.playout.stats.late == 0
    assert min(np.diff(call.face.playheads)) >= -0.3 * SAMPLE_RATE  # it goes on where it was


def test_a_turn_without_sound_ends() -> None:
    call = Call()
    call.speaker.start_turn(1)
    call.speaker.end_turn(1)
    call.run(1000)
    assert call.kinds() == ["finished"]
    assert not call.speaker.speaking


def test_a_call_that_starts_late_begins_with_the_first_picture() -> None:
    """Which has a coded key frame; what is missed later moves the body on."""
    call = Call()
    assert [call.speaker.tick(index).loop_index for index in (7, 8, 12)] == [0, 1, 5]
    other = Playout(LOOP, call.fps, loop_index=20)
    call.speaker.use(call.face, other, StartDelay(call.fps))
    assert [call.speaker.tick(index).loop_index for index in (15, 16, 18)] == [20, 21, 23]


def test_a_turn_that_waits_at_a_late_start_keeps_its_place() -> None:
    call = Call()
    call.say(1, 400)
    assert call.speaker.tick(3).loop_index == 3


def test_trim_shifts_the_picture() -> None:
    call = Call(trim_ms=80)
    call.say(1, 500)
    call.run(2000)
    first = int(np.flatnonzero(call.heard)[0])
    mouth = next(n for n, picture in enumerate(call.pictures) if picture.frame is not None)
    assert mouth / 25 - first / RATE == pytest.approx(0.08, abs=1e-3)


def test_turns_end_in_a_voice_call() -> None:
    call = Call()
    call.run(2000, video=False)
    call.say(1, 500)
    call.say(2, 500)
    call.run(4000, video=False)
    assert call.kinds() == ["started", "finished", "started", "finished"]
    assert np.count_nonzero(call.heard) == 8000
    assert all(event.wait_ms <= 400 for event in call.events if event.kind == "started")


@pytest.mark.parametrize("waits_ms", range(0, 400, 20))
def test_a_mouth_that_nobody_saw_leaves_nothing_to_the_first_picture(waits_ms: int) -> None:
    call = Call()
    call.say(1, 500)
    while "finished" not in call.kinds():
        call.run(20, video=False)
    call.run(waits_ms, video=False)
    first = call.packet // 2 + 1
    pictures = [call.speaker.tick(tick) for tick in range(first, first + 8)]
    assert all(picture.fade is None and not picture.hold for picture in pictures)
