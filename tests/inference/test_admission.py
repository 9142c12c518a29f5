"""How many speaking slots a device has, and that they do not come and go with every measurement."""

from __future__ import annotations

import pytest

from inference_server.streams.admission import followed_slots, measured_slots


def test_slots_are_frames_a_second_at_the_load_that_is_wanted() -> None:
    assert measured_slots([(1, 4.0), (4, 10.0)], 40.0, 0.75) == 12  # 400 frames a second
    assert measured_slots([(1, 4.0), (4, 50.0)], 40.0, 0.75) == 7  # a batch of four is too long
    assert measured_slots([(1, 500.0)], 40.0, 0.75) == 1


def test_slots_do_not_flap_with_a_clock_that_comes_and_goes() -> None:
    total, told = 0, []
    for ms in (10.0, 10.1, 9.9, 10.2, 10.0, 10.3):  # 12 slots at 10 ms, 11 a little above
        total = followed_slots(total, [(1, 4.0), (4, ms)], 40.0, 0.75)
        told.append(total)
    assert told == [12] * 6


def test_slots_do_not_flap_with_a_batch_that_takes_just_about_the_longest() -> None:
    total, told = 0, []
    for ms in (39.9, 40.1, 39.8, 40.3):
        total = followed_slots(total, [(1, 20.0), (4, ms)], 40.0, 0.75)
        told.append(total)
    assert told == [3] * 4


@pytest.mark.parametrize(("ms", "slots"), [(12.0, 10), (8.0, 15)])
def test_slots_follow_what_lasts(ms: float, slots: int) -> None:
    """A GPU that is slowed down, and one that is not any more."""
    assert followed_slots(12, [(1, 4.0), (4, ms)], 40.0, 0.75) == slots


def test_no_slots_are_kept_that_an_engine_never_had() -> None:
    assert followed_slots(0, [(1, 4.0), (4, 10.0)], 40.0, 0.75) == 12
