"""How far ahead a turn is started."""

from __future__ import annotations

from fractions import Fraction

import pytest

from visavis.client.start_delay import StartDelay


def test_start_delay_is_the_95th_percentile_and_one_frame_at_most_300_ms() -> None:
    delay = StartDelay(Fraction(25), initial_s=0.1)
    assert delay.seconds == pytest.approx(0.14)
    for _ in range(95):
        delay.observe(0.05)
    assert delay.seconds == pytest.approx(0.09) and delay.ticks == 3
    delay.observe(5.0)
    assert delay.seconds == pytest.approx(0.09)
    for _ in range(10):
        delay.observe(2.0)
    assert delay.seconds == pytest.approx(0.3) and delay.ticks == 7
    delay.observe(-1.0)
    assert delay.p95_s == 2.0


def test_either_kind_of_turn_learns_from_its_own() -> None:
    delay = StartDelay(Fraction(25))
    assert delay.ticks == delay.ticks_as_spoken == 5  # nothing was seen
    for _ in range(20):
        delay.observe(0.025, 3.0)
    assert (delay.ticks, delay.ticks_as_spoken) == (2, 5)
    delay.observe(0.17, 0.02)
    assert (delay.ticks, delay.ticks_as_spoken) == (2, 6)
    assert delay.p95_s == 0.025
    slow = StartDelay(Fraction(25))
    slow.observe(0.25)
    slow.observe(0.1, 0.0)
    assert slow.ticks == slow.ticks_as_spoken == 7  # sound that is there at once never waits longer
