"""Somebody speaks while a turn is spoken: it is ducked, held, and goes on where it stopped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.playout.test_speaker import RATE, Call
from visavis.playout.speaker import DUCKED


def test_a_ducked_voice_fades_within_40_ms_and_comes_back() -> None:
    call = Call()
    call.say(1, 2000)
    call.run(600)
    call.speaker.give_way("duck")
    call.run(400)
    call.speaker.give_way("none")
    call.run(400)
    at = 600 * RATE // 1000
    ramp = call.heard[at : at + 40 * RATE // 1000].astype(float)
    assert ramp[0] == pytest.approx(1000, abs=3) and ramp[-1] == pytest.approx(1000 * DUCKED, abs=1)
    assert np.abs(np.diff(ramp)).max() < 4
    assert set(call.heard[at + 320 : at + 400 * RATE // 1000]) == {int(1000 * DUCKED)}
    assert set(call.heard[-80:]) == {1000}
    assert call.kinds() == ["started"]


@settings(max_examples=30, deadline=None)
@given(before=st.integers(1, 60), pause=st.integers(1, 60), fps=st.sampled_from([25, 30]))
def test_a_held_voice_is_silent_at_once_and_goes_on_where_it_stopped(
    before: int, pause: int, fps: int
) -> None:
    call = Call(fps)
    call.say(1, 2000)
    call.run(20 * before)
    call.speaker.give_way("hold")
    sent = np.count_nonzero(call.heard)
    seen = len(call.pictures)
    call.run(20 * pause)
    assert np.count_nonzero(call.heard) == sent
    assert all(picture.frame is None for picture in call.pictures[seen + 6 :])
    call.speaker.give_way("none")
    call.run(340)
    assert np.count_nonzero(call.heard) > sent
    call.run(3000)
    assert np.count_nonzero(call.heard) == 16_000
    assert call.kinds()[-1] == "finished" and call.events[-1].heard_ms == 2000
    call.assert_body_never_jumps()


def test_what_is_held_may_be_interrupted_and_the_next_turn_is_as_loud_as_any() -> None:
    call = Call()
    call.say(1, 2000)
    call.run(600)
    call.speaker.give_way("duck")
    call.run(100)
    call.speaker.give_way("hold")
    call.run(200)
    call.speaker.interrupt()
    call.say(2, 400)
    call.run(1500)
    assert call.kinds() == ["started", "stalled", "interrupted", "started", "finished"]
    assert np.count_nonzero(call.heard[700 * RATE // 1000 :] == 1000) == 400 * 8


def test_a_turn_that_comes_while_the_floor_is_held_waits() -> None:
    call = Call()
    call.speaker.give_way("hold")
    call.say(1, 400)
    call.run(500)
    assert not call.heard.any()
    call.speaker.give_way("none")
    call.run(1500)
    assert np.count_nonzero(call.heard == 1000) == 400 * 8


def test_a_voice_that_runs_dry_while_it_is_ducked_goes_on() -> None:
    call = Call()
    call.say(1, 400, end=False)
    call.run(400)
    call.speaker.give_way("duck")
    call.run(600)
    assert call.kinds() == ["started", "stalled"]
    call.say(1, 400, start=False)
    call.run(1500)
    assert call.kinds() == ["started", "stalled", "resumed", "finished"] and call.events[-1].heard_ms == 800
