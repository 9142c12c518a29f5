"""What an idle body does for minutes: other rounds all the time, the same ones for the same seed."""

from __future__ import annotations

import itertools
from fractions import Fraction

from visavis.playout.loop import IdleVariation
from visavis.playout.playout import Playout

N = 125
STARTS = (0, 45, 77)
ENDS = {44: 0, 76: 45, 124: 77}
JUMPS = tuple((end, start) for end in ENDS for start in STARTS if (end + 1) % N != start)


def path(seed: str, ticks: int = 25 * 600) -> list[int]:
    playout = Playout(N, Fraction(25), jumps=JUMPS, choose_jump=IdleVariation(N, seed))
    return [playout.tick().loop_index for _ in range(ticks)]


def test_the_same_seed_takes_the_same_way() -> None:
    assert path("a", 5000) == path("a", 5000) != path("b", 5000)


def test_no_segment_is_repeated_and_no_order_for_long() -> None:
    segments = [index for index in path("a") if index in STARTS]
    assert all(a != b for a, b in itertools.pairwise(segments))
    rounds = {tuple(segments[at : at + 6]) for at in range(len(segments) - 6)}
    assert len(rounds) > 15
    assert all(segments.count(start) > len(segments) / 5 for start in STARTS)


def test_jumps_cost_no_more_key_frames_than_the_loop_had() -> None:
    """One in five seconds on average, never two within one segment."""
    at = [n for n, step in enumerate(itertools.pairwise(path("a"))) if step in JUMPS]
    assert 100 <= len(at) <= 140
    assert min(b - a for a, b in itertools.pairwise(at)) > 64
