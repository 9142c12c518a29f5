"""What the scheduler promises, with the costs of a GPU, in simulated time: no clock of the machine's."""

from __future__ import annotations

import numpy as np
import pytest

from bench.engine.schedule import COSTS, Tally, busy, idle

EACH = pytest.mark.parametrize("decoder", ["sd-vae", "taesd", "fast"])


def p95_ms(tally: Tally) -> float:
    return float(np.percentile(tally.firsts, 95)) * 1000


@EACH
def test_the_first_frame_comes_soon_after_its_audio(decoder: str) -> None:
    alone = idle(COSTS[decoder], turns=10)
    assert len(alone.firsts) >= 5 and max(alone.firsts) <= 0.035 and not alone.late
    full, _, world = busy(COSTS[decoder], 15.0)
    assert 0.5 < world.device.load < 0.9 and p95_ms(full) <= 80 and full.late_share <= 0.01


@EACH
@pytest.mark.parametrize("fps", [30, 40, 50])
def test_slots_are_frames_a_second(decoder: str, fps: int) -> None:
    """As many callers as the slots have room for, at a higher rate: hardly a frame is late."""
    inside, _, world = busy(COSTS[decoder], 10.0, fps=fps)
    assert inside.shown > 200 and not inside.refused and inside.late_share <= 0.01
    assert world.slots.used <= world.slots.total and p95_ms(inside) <= 80


@EACH
def test_one_caller_too_many_is_refused_and_harms_nobody(decoder: str) -> None:
    inside, beyond, world = busy(COSTS[decoder], 15.0, over=1)
    assert inside.refused + beyond.refused > 0 and world.slots.used <= world.slots.total
    assert inside.late_share <= 0.01 and not beyond.late and p95_ms(inside) <= 80


def test_a_preparation_makes_no_frame_late() -> None:
    """Steps of 10 ms, as many as fit between the batches of as many speakers as there are slots."""
    alone, _, _ = busy(COSTS["fast"], 15.0)
    inside, _, world = busy(COSTS["fast"], 15.0, step_ms=10.0)
    assert world.device.steps_done > 200 and inside.shown == alone.shown
    assert not inside.late and p95_ms(inside) <= p95_ms(alone) + 12


def test_steps_far_longer_than_promised_would_be_seen() -> None:
    """The same with steps of half a second: the figures above can fail."""
    inside, _, _ = busy(COSTS["fast"], 15.0, step_ms=500.0)
    assert inside.late > 100


def test_at_half_duty_and_three_quarters_load_hardly_a_frame_is_late() -> None:
    inside, _, world = busy(COSTS["fast"], 60.0, duty=0.5)
    assert inside.shown > 10_000 and 0.6 < world.device.load < 0.9
    assert inside.late_share <= 0.001
