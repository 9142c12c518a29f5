"""When a turn starts: sound that is there at once, and sound that comes as it is spoken, whose lips take longer."""

from __future__ import annotations

import numpy as np
import pytest

from tests.playout.test_speaker import RATE, Call
from visavis.client.start_delay import StartDelay
from visavis.playout.turn import TurnEvent

LOOK_AHEAD_MS = 138
BURST = 80
"""Milliseconds that a turn waits after bursts alone: two ticks."""


def after_bursts(fps: int = 25, *, trim_ms: int = 0, as_spoken: bool = True) -> Call:
    """A call whose delay was learnt from bursts, and from voices that came as they were spoken."""
    call = Call(fps, trim_ms=trim_ms)
    call.face.look_ahead = 16 * LOOK_AHEAD_MS
    delay: StartDelay = call.speaker._start_delay
    for _ in range(30):
        delay.observe(0.025, 3.0)
        if as_spoken:
            delay.observe(0.165, 0.02)
    call.run(1000)
    return call


def piece(call: Call, ms: int) -> None:
    call.speaker.feed(1, np.full(16 * ms, 1000, np.int16), np.full(RATE // 1000 * ms, 1000, np.int16))


def speak(call: Call, ms: int, *, pieces_ms: int = 20, faster: int = 1) -> None:
    """A turn whose sound comes ``faster`` times as fast as it is spoken."""
    call.speaker.start_turn(1)
    for _ in range(0, ms, pieces_ms * faster):
        for _ in range(faster):
            piece(call, pieces_ms)
        call.run(pieces_ms)
    call.speaker.end_turn(1)
    call.run(ms + 800)


def waited(call: Call) -> float:
    """Milliseconds from the first sound that was fed to the first that was heard."""
    return float(np.flatnonzero(call.heard)[0]) * 1000 / RATE - 1000


@pytest.mark.parametrize(("fps", "trim_ms"), [(25, 0), (30, 0), (25, 80), (25, -80)])
@pytest.mark.parametrize("pieces_ms", [20, 40, 60, 100])
def test_a_voice_that_comes_as_it_is_spoken_has_its_lips_after_bursts(
    fps: int, trim_ms: int, pieces_ms: int
) -> None:
    call, told = after_bursts(fps, trim_ms=trim_ms), list[int]()

    def emit(event: TurnEvent) -> None:
        call.events.append(event)
        told.append(call.packet * 20)

    call.speaker._emit = emit
    speak(call, 2400, pieces_ms=pieces_ms)
    assert call.playout.stats.late == 0 and call.playout.stats.shown > 2.3 * fps
    assert BURST < waited(call) <= 300
    assert call.kinds() == ["started", "finished"]
    assert call.events[0].wait_ms == pytest.approx(waited(call), abs=1)
    assert told[0] + call.events[0].in_ms == pytest.approx(1000 + waited(call), abs=20)
    assert np.count_nonzero(call.heard) == 2400 * RATE // 1000
    call.assert_body_never_jumps()


def test_the_first_such_voice_has_its_lips_too() -> None:
    call = after_bursts(as_spoken=False)
    speak(call, 2000)
    assert call.playout.stats.late == 0
    call.assert_body_never_jumps()


@pytest.mark.parametrize("pieces_ms", [20, 200, 2000])
def test_sound_that_is_there_at_once_waits_no_longer_than_bursts_did(pieces_ms: int) -> None:
    call = after_bursts()
    call.speaker.start_turn(1)
    for _ in range(0, 2000, pieces_ms):
        piece(call, pieces_ms)
    call.speaker.end_turn(1)
    call.run(3000)
    assert waited(call) == BURST
    assert call.events[0].in_ms == (40 if pieces_ms == 20 else BURST)  # pieces may stop any time
    assert call.playout.stats.late == 0 and call.kinds() == ["started", "finished"]


def test_a_short_word_waits_no_longer_either() -> None:
    call = after_bursts()
    call.say(1, 60)
    call.run(1000)
    assert waited(call) == BURST and call.kinds() == ["started", "finished"]


def test_a_voice_that_is_quicker_than_it_is_heard_starts_as_soon_as_lips_are_there() -> None:
    call = after_bursts()
    speak(call, 2000, faster=3)
    assert waited(call) == BURST and call.playout.stats.late == 0


def test_a_frame_that_is_there_is_not_waited_for() -> None:
    call = after_bursts()
    call.face.look_ahead = 0
    speak(call, 2000, pieces_ms=100)
    assert waited(call) == BURST


def test_a_voice_call_waits_for_no_lips() -> None:
    call = Call()
    for _ in range(30):
        call.speaker._start_delay.observe(0.025, 3.0)
        call.speaker._start_delay.observe(0.25, 0.02)
    call.run(1000, video=False)
    call.speaker.start_turn(1)
    for _ in range(50):
        piece(call, 20)
        call.run(20, video=False)
    call.speaker.end_turn(1)
    call.run(1000, video=False)
    assert waited(call) <= BURST + 20
    assert call.kinds() == ["started", "finished"]


def test_a_start_is_told_before_the_turn_is_held() -> None:
    call = after_bursts()
    call.speaker.start_turn(1)
    piece(call, 20)
    call.speaker.give_way("hold")
    call.run(400)
    call.speaker.give_way("none")
    assert call.kinds() == ["started", "stalled"]
    piece(call, 500)
    call.speaker.end_turn(1)
    call.run(2000)
    assert call.kinds() == ["started", "stalled", "resumed", "finished"]


def test_a_turn_that_is_cut_before_its_start_was_never_told() -> None:
    call = after_bursts()
    call.speaker.start_turn(1)
    piece(call, 20)
    call.speaker.interrupt()
    call.say(2, 500)
    call.run(1500)
    assert call.kinds() == ["interrupted", "started", "finished"] and call.events[1].turn_id == 2


def test_a_voice_that_falters_goes_on_with_its_lips() -> None:
    """After an underrun it comes as it is spoken again."""
    call = after_bursts()
    call.speaker.start_turn(1)
    for _ in range(2):
        for _ in range(30):
            piece(call, 20)
            call.run(20)
        call.run(600)
        shown = call.playout.stats.late
    for _ in range(30):
        piece(call, 20)
        call.run(20)
    call.speaker.end_turn(1)
    call.run(1500)
    assert call.playout.stats.late == shown
    call.assert_body_never_jumps()
