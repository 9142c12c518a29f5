"""One stream's turns, epochs, playhead and window, with a clock and an engine made of plain numbers."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest

from inference_server.engine.messages import Append, CloseTrack, EndTrack, Message, OpenTrack
from inference_server.engine.scheduler import Scheduler
from inference_server.errors import RequestError
from inference_server.streams.admission import SpeakingSlots, measured_slots
from inference_server.streams.ahead import AheadAudio, AheadBudget
from inference_server.streams.responses import (
    FrameReady,
    Interrupted,
    Response,
    TurnAccepted,
    TurnFinished,
    TurnRejected,
)
from inference_server.streams.session import STALE_S, Session, SessionParameters
from inference_server.streams.shares import beyond_share
from inference_server.streams.turn import QUIET_S
from visavis.frames import Rect, frame_at, frame_start

FPS = Fraction(25)
FRAME = 640
RECT = Rect(0, 0, 2, 2)
WINDOW = 6400


class Bench:
    """A session with an engine that draws at once everything the scheduler hands out."""

    def __init__(self, slots: SpeakingSlots | None = None, look_ahead: int = 0, fps: Fraction = FPS) -> None:
        self.now = 100.0
        self.said: list[Response] = []
        self.commands: list[Message] = []
        self.silent: set[int] = set()
        self.look_ahead = look_ahead
        self.fps = fps
        self.scheduler = Scheduler([(1, 1.0), (4, 2.0)], 15)
        numbers = itertools.count(1)
        self.session = Session(
            SessionParameters("s", "a", fps, 100, 3, WINDOW, 64_000, 20 * 16_000),
            slots or SpeakingSlots(4),
            new_track=lambda: next(numbers),
            command=self._command,
            say=self.said.append,
        )
        self._audio: dict[int, tuple[int, bool]] = {}

    def _command(self, message: Message) -> None:
        self.commands.append(message)
        match message:
            case OpenTrack():
                self._audio[message.track] = (message.origin, False)
            case Append():
                at, ended = self._audio[message.track]
                self._audio[message.track] = (at + len(message.payload) // 2, ended)
            case EndTrack():
                self._audio[message.track] = (self._audio[message.track][0], True)

    def turn(self, turn_id: int = 1, samples: int = 0, epoch: int = 0, end: bool = False) -> None:
        self.session.turn_start(turn_id, epoch, 0, self.now)
        if samples:
            self.session.audio(turn_id, epoch, 0, bytes(samples * 2), self.now)
        if end:
            self.session.end_of_turn(turn_id, epoch, self.now)
        self.draw()

    def play(self, sample: int, turn_id: int = 1, epoch: int = 0, playing: bool = True) -> None:
        self.session.playhead(turn_id, epoch, sample, playing, self.now)
        self.draw()

    def engine(self) -> None:
        """Say what is ready, without drawing."""
        for track, (end, ended) in self._audio.items():
            usable = end if ended else max(end - self.look_ahead, 0)
            frames = frame_at(usable, self.fps) + (
                ended and usable > frame_start(frame_at(usable, self.fps), self.fps)
            )
            self.session.track_ready(track, frames, ended, self.now)

    def draw(self) -> None:
        self.engine()
        while batch := self.scheduler.next_batch(self.session.turns_due(), self.now):
            for job in batch.jobs:
                if job.frame in self.silent:
                    self.session.rendered(job, "body", None, None, self.now)
                else:
                    self.session.rendered(job, "mouth", RECT, bytes(6), self.now)

    def frames(self, turn_id: int = 1) -> list[FrameReady]:
        return [r for r in self.said if isinstance(r, FrameReady) and r.turn_id == turn_id]

    def told(self, kind: type) -> list[Response]:
        return [r for r in self.said if isinstance(r, kind)]


def test_a_turn_is_drawn_in_the_window_and_finishes_once() -> None:
    b = Bench()
    b.turn(samples=16_000, end=True)
    assert b.told(TurnAccepted) == [TurnAccepted(1)]
    assert [f.number for f in b.frames()] == list(range(10))  # 400 ms, no playhead yet
    for sample in range(0, 16_000, FRAME):
        b.play(sample)
    frames = b.frames()
    assert [f.number for f in frames] == list(range(28))  # 25 of audio, 3 closing
    assert [f.sample for f in frames] == [FRAME * k for k in range(28)]
    assert [f.last for f in frames] == [False] * 27 + [True]
    assert frames[-1].kind == "body" and frames[-1].pixels is None
    assert b.told(TurnFinished) == [TurnFinished(1, 28, 0)]
    b.play(16_000)
    b.session.end_of_turn(1, 0, b.now)
    assert len(b.told(TurnFinished)) == 1


def test_nothing_is_handed_out_beyond_the_window() -> None:
    b = Bench()
    b.turn(samples=32_000)
    for sample in range(-4800, 30_000, 1000):
        b.play(sample)
        reach = max(0, sample) + WINDOW
        assert all(f.sample < reach for f in b.frames())
        assert b.frames()[-1].sample + FRAME >= min(reach, 32_000)


def test_closing_frames_ramp_to_the_body() -> None:
    b = Bench()
    b.turn(samples=FRAME, end=False)
    b.session.end_of_turn(1, 0, b.now)
    b.engine()
    jobs = []
    while batch := b.scheduler.next_batch(b.session.turns_due(), b.now):
        jobs += batch.jobs
    assert [(j.frame, j.source, j.loop_index, round(j.alpha, 2)) for j in jobs] == [
        (1, 0, 1, 0.67),
        (2, 0, 2, 0.33),
    ]


def test_a_turn_too_short_for_the_engine_is_the_body() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    b.session.audio(1, 0, 0, bytes(20), b.now)
    b.session.end_of_turn(1, 0, b.now)
    b.session.track_ready(1, 0, True, b.now)
    assert [(f.kind, f.last) for f in b.frames()] == [("body", True)]
    assert b.told(TurnFinished) == [TurnFinished(1, 1, 0)]


def test_silence_is_body_and_not_late() -> None:
    b = Bench()
    b.silent = {2, 3, 4}
    b.turn(samples=FRAME * 8, end=True)
    assert [f.number for f in b.frames() if f.kind == "body"] == [2, 3, 4, 10]
    assert b.told(TurnFinished) == [TurnFinished(1, 11, 0)]


def test_late_frames_are_dropped_and_counted() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 10 * 2), b.now)
    b.session.playhead(1, 0, FRAME * 4, True, b.now)  # the engine was not ready for the first four
    b.draw()
    assert [f.number for f in b.frames()] == [4, 5, 6, 7, 8, 9]
    b.session.end_of_turn(1, 0, b.now)
    b.draw()
    b.play(FRAME * 10)
    assert b.told(TurnFinished) == [TurnFinished(1, 9, 4)]


def test_a_frame_that_comes_back_too_late_is_not_sent() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 4 * 2), b.now)
    b.engine()
    batch = b.scheduler.next_batch(b.session.turns_due(), b.now)
    assert batch is not None and [j.frame for j in batch.jobs] == [0, 1, 2, 3]
    b.session.playhead(1, 0, FRAME * 2, True, b.now)
    for job in batch.jobs:
        b.session.rendered(job, "mouth", RECT, bytes(6), b.now)
    assert [f.number for f in b.frames()] == [2, 3]


def test_loop_indices_follow_the_anchor_and_wrap() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    b.session.anchor(1, 0, 0, 96, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 8 * 2), b.now)
    b.draw()
    assert [f.loop_index for f in b.frames()] == [96, 97, 98, 99, 0, 1, 2, 3]


def test_an_anchor_after_the_first_frames_draws_them_anew() -> None:
    b = Bench()
    b.turn(samples=FRAME * 4)
    b.session.anchor(1, 0, 0, 50, b.now)
    b.draw()
    assert [(f.number, f.loop_index) for f in b.frames()] == [
        *((k, k) for k in range(4)),
        *((k, 50 + k) for k in range(4)),
    ]


def test_a_later_anchor_draws_anew_from_there_on_only() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    b.session.anchor(1, 0, 0, 10, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 6 * 2), b.now)
    b.draw()
    b.session.anchor(1, 0, FRAME * 4, 40, b.now)
    b.draw()
    again = b.frames()[6:]
    assert [(f.number, f.loop_index) for f in again] == [(4, 40), (5, 41)]
    b.session.anchor(1, 0, FRAME * 4, 40, b.now)  # said again: nothing moved
    b.draw()
    assert len(b.frames()) == 8


def test_a_result_drawn_for_an_old_anchor_is_not_sent() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 2 * 2), b.now)
    b.engine()
    batch = b.scheduler.next_batch(b.session.turns_due(), b.now)
    assert batch is not None
    b.session.anchor(1, 0, 0, 70, b.now)
    for job in batch.jobs:
        b.session.rendered(job, "mouth", RECT, bytes(6), b.now)
    b.draw()
    assert [f.loop_index for f in b.frames()] == [70, 71]


def test_an_anchor_after_the_end_draws_the_rest_and_its_last_frame_anew() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    b.session.anchor(1, 0, 0, 10, b.now)
    b.session.playhead(1, 0, -1000, False, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 4 * 2), b.now)
    b.session.end_of_turn(1, 0, b.now)
    b.draw()
    assert b.frames()[-1].last and not b.told(TurnFinished)  # not heard yet: it may still move
    b.session.anchor(1, 0, FRAME * 2, 60, b.now)
    b.draw()
    assert [(f.number, f.loop_index, f.last) for f in b.frames()[7:]] == [
        (2, 60, False),
        (3, 61, False),
        (4, 62, False),
        (5, 63, False),
        (6, 64, True),
    ]
    b.play(FRAME * 3)
    assert b.told(TurnFinished) == [TurnFinished(1, 7, 0)]


def test_a_rendered_turn_of_a_silent_client_finishes_by_itself() -> None:
    slots = SpeakingSlots(1)
    b = Bench(slots)
    b.session.turn_start(1, 0, 0, b.now)
    b.session.playhead(1, 0, -1000, False, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 2 * 2), b.now)
    b.session.end_of_turn(1, 0, b.now)
    b.draw()
    assert not b.told(TurnFinished) and slots.free == 0
    b.session.expire(b.now + STALE_S)
    assert b.told(TurnFinished) == [TurnFinished(1, 5, 0)] and slots.free == 1


def test_a_slot_that_nothing_is_said_with_is_given_back_and_taken_again() -> None:
    slots = SpeakingSlots(1)
    b = Bench(slots)
    b.turn(samples=FRAME * 4)
    b.session.expire(b.now + QUIET_S - 0.1)
    assert slots.free == 0
    b.play(FRAME * 4)
    b.now += QUIET_S
    b.session.expire(b.now)
    assert slots.free == 1 and b.session.speaking and not b.told(TurnFinished)
    b.session.audio(1, 0, FRAME * 4, bytes(FRAME * 4 * 2), b.now)
    b.draw()
    assert slots.free == 0 and not b.told(TurnRejected)
    b.play(FRAME * 8)
    b.now += QUIET_S
    b.session.expire(b.now)
    assert slots.take(FPS)  # somebody else speaks meanwhile
    b.session.audio(1, 0, FRAME * 8, bytes(FRAME * 2), b.now)
    (rejected,) = b.told(TurnRejected)
    assert rejected.turn_id == 1 and "speaking slots are taken" in rejected.reason
    assert not b.session.speaking and slots.used == 1
    b.session.audio(1, 0, FRAME * 9, bytes(FRAME * 2), b.now)  # crossed the refusal
    slots.give(FPS)
    assert slots.free == 1


def test_a_turn_of_which_no_audio_comes_holds_no_slot() -> None:
    slots = SpeakingSlots(1)
    b = Bench(slots)
    b.turn()
    b.session.expire(b.now + QUIET_S)
    assert slots.free == 1
    b.session.close()
    assert slots.free == 1


def test_a_client_gets_its_share_once_it_is_crowded_and_others_are_here() -> None:
    alone = {"a": 9}
    assert not beyond_share("a", alone, alone, 10)
    assert not beyond_share("a", {"a": 7}, {"a", "b"}, 10)  # three quarters are not taken yet
    assert beyond_share("a", {"a": 8}, {"a", "b"}, 10)
    assert not beyond_share("b", {"a": 8}, {"a", "b"}, 10)
    assert not beyond_share("b", {"a": 5, "b": 4}, {"a"}, 10)
    assert beyond_share("b", {"a": 5, "b": 5}, {"a"}, 10)
    held, grabbed = {"a": 0, "b": 0}, 0
    for _ in range(100):  # one grabs whatever it gets, the other asks afterwards
        if not beyond_share("a", held, held, 60) and sum(held.values()) < 60:
            held["a"] += 1
    grabbed = held["a"]
    for _ in range(15):
        assert not beyond_share("b", held, held, 60)
        held["b"] += 1
    assert (grabbed, sum(held.values())) == (45, 60)


def test_interrupt_ends_the_turn_without_a_finish() -> None:
    slots = SpeakingSlots(1)
    b = Bench(slots)
    b.turn(samples=FRAME * 40)
    sent = len(b.frames())
    b.session.interrupt(1, b.now)
    assert b.told(Interrupted) == [Interrupted(1)]
    assert isinstance(b.commands[-1], CloseTrack) and slots.free == 1
    b.play(FRAME * 5)  # crossed the interrupt
    b.session.audio(1, 0, FRAME * 40, bytes(4), b.now)
    b.session.end_of_turn(1, 0, b.now)
    assert len(b.frames()) == sent and not b.told(TurnFinished)


def test_results_of_a_dead_epoch_are_not_sent_and_its_rows_not_handed_out() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 10 * 2), b.now)
    b.engine()
    batch = b.scheduler.next_batch(b.session.turns_due(), b.now)
    assert batch is not None
    b.session.interrupt(1, b.now)
    for job in batch.jobs:
        b.session.rendered(job, "mouth", RECT, bytes(6), b.now)
    assert not b.frames()
    assert b.scheduler.next_batch(b.session.turns_due(), b.now) is None


def test_a_turn_of_a_higher_epoch_interrupts_what_was_before() -> None:
    b = Bench()
    b.turn(samples=FRAME * 4)
    b.turn(2, samples=FRAME * 2, epoch=3)
    assert b.told(Interrupted) == [Interrupted(3)]
    assert {f.epoch for f in b.frames(2)} == {3}


def test_a_repeated_interrupt_is_answered_and_harms_nothing() -> None:
    b = Bench()
    b.session.interrupt(2, b.now)
    b.turn(1, samples=FRAME * 2, epoch=2)
    b.session.interrupt(2, b.now)
    b.session.interrupt(1, b.now)
    b.session.audio(1, 2, FRAME * 2, bytes(FRAME * 2), b.now)
    b.draw()
    assert len(b.frames()) == 3 and b.told(Interrupted) == [Interrupted(2)] * 2


def test_resume_draws_only_from_the_named_sample_with_the_audio_before_it_as_history() -> None:
    b = Bench()
    b.session.turn_start(9, 4, 80_500, b.now)
    b.session.anchor(9, 4, 0, 0, b.now)
    b.session.playhead(9, 4, 80_500, True, b.now)
    b.session.audio(9, 4, 16_000, bytes(2 * 20_000), b.now)
    b.session.audio(9, 4, 36_000, bytes(2 * 26_000), b.now)
    b.session.audio(9, 4, 62_000, bytes(2 * 20_000), b.now)
    b.session.end_of_turn(9, 4, b.now)
    b.draw()
    opened = next(c for c in b.commands if isinstance(c, OpenTrack))
    assert opened.origin == 16_000
    frames = b.frames(9)
    assert frames[0].sample == 80_640  # the first frame that begins at or after 80500
    assert frames[0].loop_index == 126 % 100
    assert frames[-1].last


def test_resume_of_a_turn_whose_audio_is_all_heard_still_ends() -> None:
    b = Bench()
    b.session.turn_start(1, 0, FRAME * 4, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 4 * 2), b.now)
    b.session.end_of_turn(1, 0, b.now)
    b.draw()
    assert b.frames()[-1].last and len(b.told(TurnFinished)) == 1


def test_an_empty_turn_finishes_at_once() -> None:
    slots = SpeakingSlots(1)
    b = Bench(slots)
    b.turn(end=True)
    assert b.told(TurnFinished) == [TurnFinished(1, 0, 0)] and slots.free == 1


def test_no_slot_rejects_the_turn_and_drops_its_audio() -> None:
    slots = SpeakingSlots(1)
    first, second = Bench(slots), Bench(slots)
    first.turn(samples=FRAME)
    second.turn(samples=FRAME)
    rejected = second.told(TurnRejected)
    assert len(rejected) == 1 and "slots" in rejected[0].reason  # type: ignore[attr-defined]
    assert not second.commands
    second.play(0)
    second.session.end_of_turn(1, 0, second.now)
    first.session.interrupt(1, first.now)
    second.turn(2, samples=FRAME)
    assert second.told(TurnAccepted) == [TurnAccepted(2)]


def test_closing_a_session_gives_its_slot_and_tracks_back() -> None:
    slots = SpeakingSlots(1)
    b = Bench(slots)
    b.turn(samples=FRAME)
    b.session.close()
    assert slots.free == 1 and isinstance(b.commands[-1], CloseTrack)
    b.session.close()
    assert slots.used == 0


def test_two_turns_of_a_session_share_one_slot() -> None:
    slots = SpeakingSlots(1)
    b = Bench(slots)
    b.session.turn_start(1, 0, 0, b.now)
    b.session.playhead(1, 0, -100, False, b.now)
    b.session.audio(1, 0, 0, bytes(FRAME * 2), b.now)
    b.session.end_of_turn(1, 0, b.now)
    b.turn(2, samples=FRAME)
    assert b.told(TurnAccepted) == [TurnAccepted(1), TurnAccepted(2)] and slots.used == 1
    b.play(FRAME)
    assert slots.used == 1
    b.session.end_of_turn(2, 0, b.now)
    b.draw()
    assert slots.used == 0


@pytest.mark.parametrize("fps", [Fraction(30), Fraction(30_000, 1001), Fraction(12)])
def test_other_frame_rates_keep_the_grid(fps: Fraction) -> None:
    b = Bench(fps=fps)
    b.turn(samples=20_000, end=True)
    for sample in range(0, 20_000, 500):
        b.play(sample)
    frames = b.frames()
    assert [f.sample for f in frames] == [frame_start(k, fps) for k in range(len(frames))]
    assert len(frames) == frame_at(19_999, fps) + 1 + 3


REFUSALS = {
    "too much PCM": (lambda s: s.audio(1, 0, 0, bytes(64_002), 0), "64000 bytes of one message"),
    "a gap": (lambda s: s.audio(1, 0, 700, bytes(2), 0), "goes on at sample 640, not 700"),
    "an unknown turn": (lambda s: s.audio(5, 0, 0, bytes(2), 0), "turn 5 was never started"),
    "another epoch": (lambda s: s.audio(1, 7, 0, bytes(2), 0), "belongs to epoch 0, not 7"),
    "a turn in a turn": (lambda s: s.turn_start(2, 0, 0, 0), "turn 1 has not ended"),
    "a turn twice": (lambda s: s.turn_start(1, 0, 0, 0), "started before"),
    "an anchor outside": (lambda s: s.anchor(1, 0, 0, 100, 0), "outside the loop of 100"),
    "an unknown end": (lambda s: s.end_of_turn(5, 0, 0), "never started"),
    "an unknown head": (lambda s: s.playhead(5, 0, 0, True, 0), "never started"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_mistakes_get_one_sentence(case: str) -> None:
    request, sentence = REFUSALS[case]
    b = Bench()
    b.turn(samples=FRAME)
    with pytest.raises(RequestError, match=sentence) as error:
        request(b.session)
    assert error.value.kind == "invalid_argument"


@pytest.mark.parametrize("size", [1, 3, 7, 641])
def test_audio_in_odd_pieces_is_the_same_audio(size: int) -> None:
    whole = np.arange(2 * FRAME, dtype="<i2").tobytes()
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    for at in range(0, len(whole), size):
        b.session.audio(1, 0, at // 2, whole[at : at + size], b.now)
    b.session.audio(1, 0, len(whole) // 2, b"x", b.now)  # half a sample: dropped with the turn's end
    b.session.end_of_turn(1, 0, b.now)
    assert b"".join(c.payload for c in b.commands if isinstance(c, Append)) == whole
    b.session.turn_start(2, 0, 0, b.now)
    b.session.audio(2, 0, 0, b"ab", b.now)
    assert next(c.payload for c in reversed(b.commands) if isinstance(c, Append)) == b"ab"


def test_audio_after_the_end_is_a_mistake() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    b.session.playhead(1, 0, -100, False, b.now)
    b.session.audio(1, 0, 0, bytes(2), b.now)
    b.session.end_of_turn(1, 0, b.now)
    with pytest.raises(RequestError, match="nothing may follow its end"):
        b.session.audio(1, 0, 1, bytes(2), b.now)


def test_a_turn_longer_than_the_limit_is_refused() -> None:
    b = Bench()
    b.session.turn_start(1, 0, 0, b.now)
    for k in range(10):
        b.session.audio(1, 0, k * 32_000, bytes(64_000), b.now)
    with pytest.raises(RequestError, match="longer than the 20 s"):
        b.session.audio(1, 0, 320_000, bytes(2), b.now)


def test_absurd_numbers_are_survived() -> None:
    b = Bench()
    b.turn(samples=FRAME * 4)
    for k in range(500):
        b.session.anchor(1, 0, 2**64 - 1 - k, k % 100, b.now)
        b.session.anchor(1, 0, 10**15 + 640 * k, k % 100, b.now)
    b.play(-(2**63))
    b.play(2**63 - 1)
    b.session.end_of_turn(1, 0, b.now)
    b.draw()
    assert len(b.told(TurnFinished)) == 1


def test_slots_are_counted_in_frames_a_second() -> None:
    slots = SpeakingSlots(2)
    assert slots.take(Fraction(30)) and (slots.used, slots.free) == (2, 0)
    assert not slots.take(Fraction(25)) and slots.take(Fraction(20))
    slots.give(Fraction(30))
    assert (slots.used, slots.free) == (1, 1)
    slots.give(Fraction(20))
    assert slots.used == 0 and slots.take(Fraction(60)), "where nobody speaks any turn is taken"
    assert not slots.take(Fraction(5))
    assert not SpeakingSlots(0).take(Fraction(25))


def test_slots_follow_the_measured_cost() -> None:
    assert measured_slots([(1, 10.0), (8, 14.0), (16, 20.0)], 15, 0.75) == int(8 / 14 * 1000 * 0.75 / 25)
    assert measured_slots([(1, 100.0)], 15, 0.75) == 1  # slow, but not mute
    assert measured_slots([], 15, 0.75) == 1


def appended(b: Bench) -> int:
    return sum(len(command.payload) // 2 for command in b.commands if isinstance(command, Append))


def test_audio_of_later_than_five_seconds_waits_in_the_front() -> None:
    b, seconds = Bench(), 16_000
    b.turn()
    for first in range(0, 15 * seconds, seconds):
        b.session.audio(1, 0, first, bytes(2 * seconds), b.now)
    b.session.end_of_turn(1, 0, b.now)
    assert appended(b) == 5 * seconds and not any(isinstance(c, EndTrack) for c in b.commands)
    for sample in range(0, 15 * seconds, FRAME):
        b.play(sample)
        assert appended(b) == min(sample + 5 * seconds, 15 * seconds)
    assert [type(c) for c in b.commands[-2:]] == [EndTrack, CloseTrack]
    assert len(b.frames()) == 15 * 25 + 3 and b.told(TurnFinished) == [TurnFinished(1, 15 * 25 + 3, 0)]


def test_what_is_drawn_again_by_another_server_is_heard_from_there() -> None:
    b, seconds = Bench(), 16_000
    b.session.turn_start(1, 0, 10 * seconds, b.now)
    for first in range(0, 20 * seconds, seconds):
        b.session.audio(1, 0, first, bytes(2 * seconds), b.now)
    assert appended(b) == 15 * seconds


def test_audio_that_waits_is_bounded_over_all_streams() -> None:
    budget = AheadBudget(1_000_000, 100_000)
    streams = [AheadAudio(budget) for _ in range(4)]
    with pytest.raises(RequestError, match="send audio no earlier than it is spoken"):
        for _ in range(100):
            streams[0].push(0, bytes(50_000))
    assert budget.used == streams[0].held == 1_000_000
    for stream in streams[1:]:  # the others have their share all the same
        stream.push(0, bytes(50_000))
        stream.push(25_000, bytes(50_000))
        with pytest.raises(RequestError):
            stream.push(50_000, bytes(2))
    assert len(streams[1].due(10_000)) == 20_000 and streams[1].due(10_000) == b""
    for stream in streams:
        stream.clear()
    assert budget.used == 0


def test_a_turn_that_is_cut_gives_its_audio_back() -> None:
    budget, b = AheadBudget(10**9, 10**9), Bench()
    b.session._budget = budget
    b.turn()
    for first in range(0, 10 * 16_000, 16_000):
        b.session.audio(1, 0, first, bytes(32_000), b.now)
    assert budget.used == 5 * 32_000
    b.session.interrupt(1, b.now)
    assert budget.used == 0


def test_the_level_of_a_turn_goes_with_the_next_one() -> None:
    b = Bench()
    b.turn(samples=16_000, end=True)
    b.session.track_ready(1, 25, True, b.now, 0.75)
    b.session.track_ready(1, 25, True, b.now)  # an engine that does not tell changes nothing
    b.turn(turn_id=2, samples=640)
    assert [c.level for c in b.commands if isinstance(c, OpenTrack)] == [None, 0.75]
