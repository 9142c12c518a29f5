"""Which frames go first, and in batches of which size."""

from __future__ import annotations

from fractions import Fraction

from inference_server.engine.scheduler import MOST_FAILURES, Batch, Scheduler
from inference_server.streams.pace import Pace
from inference_server.streams.turn import FIRST_FRAMES, TurnFrames

FRAME = 640
COSTS = [(1, 3.0), (4, 6.0), (8, 12.0), (16, 24.0)]


def turn(track: int, *, frames: int = 100, playhead: int | None = None, now: float = 0.0) -> TurnFrames:
    t = TurnFrames(
        track, 0, track, fps=Fraction(25), closing=3, window=6400, loop_length=50, render_from=0, now=now
    )
    t.begin(0, now)
    t.received = t.ready = 0
    t.received = frames * FRAME
    t.ready = frames
    if playhead is not None:
        t.playhead(playhead, True, now)
        t.cursor = playhead // FRAME + 1
    return t


def rows(batch: Batch | None) -> list[tuple[int, int]]:
    return [] if batch is None else [(j.turn.track, j.frame) for j in batch.jobs]


def test_a_batch_is_never_longer_than_its_time() -> None:
    s = Scheduler(COSTS, 15)
    batch = s.next_batch([turn(1), turn(2)], 0)
    assert len(rows(batch)) == 8 and s.cost_ms(8) <= 15 < s.cost_ms(16)
    assert s.cost_ms(5) == 12.0  # padded to its bucket


def test_a_batch_is_longer_where_no_first_frame_waits() -> None:
    s = Scheduler(COSTS, 7, 15)
    assert (s.soon, s.largest) == (4, 8)
    playing = turn(1, playhead=FRAME * 20)
    assert len(rows(s.next_batch([playing], 0))) == 8
    assert len(rows(s.next_batch([playing, turn(2)], 0))) == 4
    costly = Scheduler([(1, 3.0), (4, 6.0), (8, 20.0)], 7, 40)
    assert costly.largest == 4  # a longer batch that is no cheaper by the row would only be late


def test_an_engine_slower_than_the_limit_still_draws_its_smallest_batch() -> None:
    assert len(rows(Scheduler([(2, 80.0), (4, 160.0)], 15).next_batch([turn(1)], 0))) == 2


def test_nothing_waits_to_fill_a_batch() -> None:
    t = turn(1, frames=1)
    assert rows(Scheduler(COSTS, 15).next_batch([t], 0)) == [(1, 0)]
    assert Scheduler(COSTS, 15).next_batch([t], 0) is None


def test_the_earliest_deadline_goes_first() -> None:
    behind, ahead = turn(1, playhead=FRAME * 20), turn(2, playhead=FRAME * 20)
    ahead.cursor = 26  # has five frames in hand
    batch = Scheduler(COSTS, 15).next_batch([ahead, behind], 0)
    assert rows(batch)[:5] == [(1, k) for k in range(21, 26)]
    assert sorted(rows(batch)[5:7]) == [(1, 26), (2, 26)]


def test_deadlines_come_from_playheads_of_different_moments() -> None:
    early, late = turn(1, playhead=FRAME * 20, now=10.0), turn(2, playhead=FRAME * 20, now=10.02)
    batch = Scheduler(COSTS, 15).next_batch([late, early], 10.03)
    assert rows(batch)[:4] == [(1, 21), (2, 21), (1, 22), (2, 22)]


def test_first_frames_of_a_turn_go_ahead_of_everything_that_plays() -> None:
    playing = [turn(k, playhead=FRAME * 20) for k in range(1, 9)]
    fresh = turn(99)
    batch = Scheduler(COSTS, 15).next_batch([*playing, fresh], 0)
    assert rows(batch)[:FIRST_FRAMES] == [(99, k) for k in range(FIRST_FRAMES)]
    assert (99, FIRST_FRAMES) not in rows(batch)


def test_every_stream_gets_its_turn() -> None:
    s = Scheduler(COSTS, 15)
    turns = [turn(k, playhead=FRAME * 10) for k in range(1, 7)]
    seen = [row for _ in range(8) for row in rows(s.next_batch(turns, 0))]
    assert sorted(seen) == sorted((k, f) for k in range(1, 7) for f in range(11, 20))
    order = [f for _, f in seen]
    assert order == sorted(order)


def test_a_failed_batch_is_tried_again_in_smaller_ones_and_then_given_up() -> None:
    s = Scheduler(COSTS, 15)
    turns = [turn(1)]
    batch = s.next_batch(turns, 0)
    assert batch is not None and len(batch.jobs) == 8
    assert s.failed(batch) == []
    sizes = []
    given_up = []
    for _ in range(100):
        again = s.next_batch([], 0)
        if again is None:
            break
        sizes.append(len(again.jobs))
        given_up += s.failed(again)
    assert sizes[:2] == [4, 4] and sizes[2:] == [1] * 8 * MOST_FAILURES
    assert [j.frame for j in given_up] == list(range(8))


def test_retries_of_a_dead_turn_cost_nothing() -> None:
    s = Scheduler(COSTS, 15)
    dead, alive = turn(1, playhead=FRAME * 5), turn(2, playhead=FRAME * 5)
    batch = s.next_batch([dead, alive], 0)
    assert batch is not None
    s.failed(batch)
    dead.alive = False
    gone = s.abandoned()
    assert {j.turn.track for j in gone} == {1} and len(gone) == 4
    assert {track for track, _ in rows(s.next_batch([], 0))} == {2}


def test_retries_that_are_late_or_moved_cost_nothing() -> None:
    s = Scheduler(COSTS, 15)
    t = turn(1, playhead=FRAME * 5)
    t.anchor(0, 0)
    batch = s.next_batch([t], 0)
    assert batch is not None
    s.failed(batch)
    t.playhead(FRAME * 8, True, 0)
    assert [j.frame for j in s.abandoned()] == [6, 7]
    t.anchor(FRAME * 10, 3)
    assert [j.frame for j in s.abandoned()] == list(range(10, 14))
    assert [f for _, f in rows(s.next_batch([], 0))] == [8, 9]


def test_what_did_not_fit_goes_next() -> None:
    s = Scheduler(COSTS, 15)
    t = turn(1)
    batch = s.next_batch([t], 0)
    assert batch is not None
    s.put_back(batch.jobs[3:])
    assert [f for _, f in rows(s.next_batch([t], 0))] == [3, 4, 5, 6, 7]


def test_whoever_asks_for_more_than_is_shown_comes_after_the_others() -> None:
    """A client that moves its playhead ten times too fast has the earliest deadlines of all."""
    greedy, honest = turn(1), turn(2, playhead=FRAME * 20, now=0.0)
    greedy.pace, honest.pace = Pace(Fraction(25), 24, 0.0), Pace(Fraction(25), 24, 0.0)
    scheduler, drawn = Scheduler(COSTS, 15), {1: 0, 2: 0}
    for tick in range(75):
        now = tick * 0.04
        greedy.received = honest.received = 10_000 * FRAME
        greedy.ready = honest.ready = 10_000
        greedy.playhead(FRAME * 10 * tick, True, now)
        honest.playhead(FRAME * (20 + tick), True, now)
        greedy.note_due(now)
        batch = scheduler.next_batch([greedy, honest], now, most=2)  # half of what the two ask for
        for track, _ in rows(batch):
            drawn[track] += 1
    assert honest.late == 0 and drawn[2] >= 74  # frames 21 to 94
    assert drawn[1] + drawn[2] == 150  # and what is over is the other's


def test_a_stream_alone_is_drawn_as_fast_as_it_likes() -> None:
    alone = turn(1, frames=1000)
    alone.pace = Pace(Fraction(25), 24, 0.0)
    drawn = 0
    for step in range(100):
        alone.playhead(FRAME * 4 * step, True, 0.0)
        drawn += len(rows(Scheduler(COSTS, 15).next_batch([alone], 0.0)))
    assert drawn >= 400
