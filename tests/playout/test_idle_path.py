"""An idle body with segments: other ways all the time, by what the caller does, the same ones for the same seed."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from visavis.playout.idle import IdlePath, IdleState, idle_path, run_again
from visavis.playout.loop import IdleVariation
from visavis.playout.playout import Playout

KINDS = ("breath", "tilt", "nod", "lift", "away", "turn", "turn", "glance")
LENGTHS = (40, 34, 22, 24, 34, 34, 32, 30)
N = sum(LENGTHS)
STARTS = [0, *itertools.accumulate(LENGTHS[:-1])]
SEGMENTS = tuple(zip(STARTS, KINDS, strict=True))
KIND = dict(SEGMENTS)
JUMPS = tuple(
    ((end - 1) % N, start) for end in STARTS for start in STARTS if end % N != start
)  # fmt: skip


class Body:
    """Plays; ``state`` may change at any time."""

    def __init__(self, seed: str = "a call", state: IdleState = "idle") -> None:
        self.state = state
        way = IdlePath(N, SEGMENTS, seed, lambda: self.state)
        self.playout = Playout(N, Fraction(25), jumps=JUMPS, choose_jump=way)

    def play(self, ticks: int) -> list[int]:
        return [self.playout.tick().loop_index for _ in range(ticks)]

    def kinds(self, ticks: int) -> list[str]:
        return [KIND[index] for index in self.play(ticks) if index in KIND]


def test_the_same_seed_takes_the_same_way() -> None:
    assert Body("a").play(5000) == Body("a").play(5000) != Body("b").play(5000)


@pytest.mark.parametrize("seed", "abcdef")
def test_no_order_of_three_segments_is_seen_again_within_a_minute(seed: str) -> None:
    path = Body(seed).play(25 * 300)
    cuts = [(tick, index) for tick, index in enumerate(path) if index in KIND]
    assert all(a != b for (_, a), (_, b) in itertools.pairwise(cuts))
    last: dict[tuple[int, ...], int] = {}
    for at in range(len(cuts) - 2):
        order = tuple(index for _, index in cuts[at : at + 3])
        assert cuts[at][0] - last.get(order, -9999) > 25 * 55
        last[order] = cuts[at][0]


def test_a_body_leaves_its_loop_at_jump_points_only() -> None:
    path = Body().play(25 * 300)
    for before, after in itertools.pairwise(path):
        assert after == (before + 1) % N or (before, after) in JUMPS


def test_who_idles_neither_nods_nor_thinks_and_who_listens_does_not_look_away() -> None:
    assert set(Body().kinds(25 * 120)) == {"breath", "tilt", "turn", "glance"}
    assert set(Body(state="listening").kinds(25 * 120)[1:]) == {"breath", "tilt", "lift"}


def test_a_pause_is_nodded_to_at_the_next_cut() -> None:
    body = Body(state="listening")
    for _ in range(20):
        body.kinds(25 * 3)
        body.state = "paused"
        while not (shown := body.kinds(1)):
            pass
        body.state = "listening"
        assert shown == ["nod"]


def test_who_thinks_looks_away_most_of_the_time() -> None:
    firsts = []
    for seed in range(60):
        body = Body(str(seed))
        body.kinds(25 * 3)
        body.state = "thinking"
        while not (shown := body.kinds(1)):
            pass
        firsts += shown
    assert firsts.count("away") > 30 and {"nod", "lift"}.isdisjoint(firsts)


def test_a_body_that_cannot_do_what_suits_does_what_it_can() -> None:
    way = IdlePath(20, ((0, "breath"), (10, "yawn")), "a", lambda: "paused")
    assert [way(9, ()), way(19, ()), way(9, (0,))] == [None, None, None]


def test_bodies_without_segments_go_on_by_chance() -> None:
    assert isinstance(idle_path(N, (), "a"), IdleVariation)
    assert isinstance(idle_path(N, SEGMENTS, "a"), IdlePath)


@pytest.mark.parametrize(
    ("played", "following", "run"),
    [("", "a", 0), ("ab", "c", 0), ("ab", "a", 1), ("abcab", "c", 3), ("bcab", "c", 2), ("aaa", "a", 3)],
)
def test_runs_that_would_be_seen_again(played: str, following: str, run: int) -> None:
    assert run_again([ord(each) for each in played], ord(following)) == run
