"""Playout by itself: no clock, frames made by hand, every picture checked against the rules."""

from __future__ import annotations

from fractions import Fraction

import pytest

from visavis.frames import Frame, Rect, frame_start
from visavis.playout.playout import Picture, Playout

FPS = Fraction(25)
N = 50
RECT = Rect(0, 0, 2, 2)


def mouth(
    k: int, index: int, turn: int = 1, epoch: int = 1, last: bool = False, fps: Fraction = FPS
) -> Frame:
    return Frame(turn, epoch, frame_start(k, fps), index % N, "mouth", RECT, b"123456", last)


def body(k: int, index: int, last: bool = False) -> Frame:
    return Frame(1, 1, frame_start(k, FPS), index % N, "body", last=last)


def playing(playout: Playout, ticks: int, start: int = 0) -> list[Picture]:
    return [playout.tick(frame_start(start + k, playout.fps)) for k in range(ticks)]


def speaking(frames: int = 100, ahead: int = 3) -> Playout:
    """A playout whose turn starts with the next tick, with frames for it."""
    playout = Playout(N, FPS)
    anchor = playout.begin_turn(1, 1, ahead)
    for _ in range(ahead):
        assert playout.tick(None) == Picture(playout.loop_index - 1)
    for k in range(frames):
        assert playout.on_frame(mouth(k, anchor.loop_index + k))
    return playout


def test_idle_plays_the_loop_around() -> None:
    playout = Playout(N, FPS)
    assert [playout.tick() for _ in range(N + 1)] == [Picture(i % N) for i in range(N + 1)]
    assert playout.idle


def test_jumps_are_taken_only_while_idle_and_only_where_chosen() -> None:
    asked: list[tuple[int, tuple[int, ...]]] = []

    def choose(index: int, targets: tuple[int, ...]) -> int | None:
        asked.append((index, targets))
        return targets[0]

    playout = Playout(N, FPS, jumps=[(2, 10), (2, 20), (12, 0)], choose_jump=choose)
    assert [playout.tick().loop_index for _ in range(6)] == [0, 1, 2, 10, 11, 12]
    assert asked == [(2, (10, 20)), (12, (0,))]
    playout.begin_turn(1, 1, 5)
    assert [playout.tick().loop_index for _ in range(5)] == [0, 1, 2, 3, 4]
    playing(playout, 10)
    assert len(asked) == 2


def test_a_choice_that_is_no_jump_is_not_followed() -> None:
    playout = Playout(N, FPS, jumps=[(1, 10)], choose_jump=lambda index, targets: 33)
    assert [playout.tick().loop_index for _ in range(4)] == [0, 1, 2, 3]


def test_frames_are_shown_at_their_own_tick_over_their_own_body() -> None:
    playout = speaking(5)
    for k, picture in enumerate(playing(playout, 5)):
        assert picture == Picture(3 + k, mouth(k, 3 + k))
    assert playout.stats.shown == 5 and playout.stats.late == 0


def test_a_missing_frame_holds_the_last_picture_and_a_frame_that_comes_too_late_is_dropped() -> None:
    playout = speaking(5)
    playing(playout, 5)
    assert playing(playout, 2, 5) == [Picture(8, hold=True), Picture(9, hold=True)]
    assert not playout.on_frame(mouth(6, 9))
    assert playout.on_frame(mouth(7, 10))
    assert playing(playout, 1, 7) == [Picture(10, mouth(7, 10))]
    assert (playout.stats.held, playout.stats.late, playout.stats.dropped) == (2, 2, 1)
    assert playout.stats.freeze_s == pytest.approx(0.08)


def test_starvation_fades_to_the_moving_body_and_back_in() -> None:
    playout = speaking(5)
    playing(playout, 5)
    pictures = playing(playout, 12, 5)
    assert [p.hold for p in pictures] == [True] * 5 + [False] * 7
    assert [p.fade for p in pictures[5:]] == [0.75, 0.5, 0.25, None, None, None, None]
    assert [p.loop_index for p in pictures] == list(range(8, 20))
    for k in range(17, 25):
        assert playout.on_frame(mouth(k, 3 + k))
    back = playing(playout, 5, 17)
    assert [p.fade for p in back] == [0.75, 0.5, 0.25, None, None]
    assert all(p.frame is not None for p in back)
    assert playout.stats.starved == 1


def test_frames_that_are_late_from_the_start_leave_the_body_moving() -> None:
    playout = speaking(0)
    assert playing(playout, 3) == [Picture(3), Picture(4), Picture(5)]
    assert playout.on_frame(mouth(3, 6))
    assert playing(playout, 1, 3) == [Picture(6, mouth(3, 6))]
    assert playout.stats.late == 3 and playout.stats.held == 0


def test_body_frames_show_the_body() -> None:
    playout = speaking(0)
    assert playout.on_frame(body(0, 3))
    assert playing(playout, 1) == [Picture(3)]
    assert playout.stats.shown == 1 and playout.stats.late == 0


def test_whole_frames_of_a_body_that_differs_are_shown_as_they_come() -> None:
    playout = speaking(0)
    whole = Frame(1, 1, 0, 3, "body", Rect(0, 0, 2, 2), b"123456")
    playout.on_frame(whole)
    assert playing(playout, 1) == [Picture(3, whole)]


def test_interrupt_shuts_the_mouth_with_the_next_picture() -> None:
    playout = speaking(20)
    playing(playout, 5)
    playout.interrupt()
    assert playout.buffered == 0
    assert playout.tick(None) == Picture(8)
    assert playout.tick(None) == Picture(9)
    assert playout.idle
    assert not playout.on_frame(mouth(9, 12))
    assert playout.stats.stale == 1


def test_interrupt_while_idle_changes_nothing() -> None:
    playout = Playout(N, FPS)
    playout.tick()
    playout.interrupt()
    assert playout.tick() == Picture(1)


def test_a_new_turn_right_after_an_interrupt_does_not_hold_the_old_mouth() -> None:
    playout = speaking(20)
    playing(playout, 5)
    playout.interrupt()
    playout.begin_turn(2, 2, 0)
    assert playing(playout, 2) == [Picture(8), Picture(9)]


def test_a_turn_ends_with_its_closing_frames_and_idle_goes_on_from_there() -> None:
    playout = speaking(5)
    playing(playout, 5)
    playout.end_turn(frame_start(5, FPS))
    for k in (5, 6):
        assert playout.on_frame(mouth(k, 3 + k))
    assert playout.on_frame(body(7, 10, last=True))
    assert [playout.tick(None) for _ in range(4)] == [
        Picture(8, mouth(5, 8)),
        Picture(9, mouth(6, 9)),
        Picture(10),
        Picture(11),
    ]
    assert playout.idle and playout.turn_id is None


def test_closing_frames_that_never_come_do_not_keep_the_turn() -> None:
    playout = speaking(5)
    playing(playout, 5)
    playout.end_turn(frame_start(5, FPS))
    for _ in range(10):
        playout.tick(None)
    assert playout.idle
    assert playout.stats.late == 0


def test_an_underrun_fades_and_resumes_on_the_body_that_is_due() -> None:
    playout = speaking(5)
    playing(playout, 5)
    assert [p.fade for p in (playout.tick(None) for _ in range(6))] == [0.75, 0.5, 0.25, None, None, None]
    anchor = playout.resume(frame_start(5, FPS), 2)
    assert anchor is not None and anchor.loop_index == 16
    assert not playout.on_frame(mouth(5, 8))  # drawn for where the body would have been
    for k in range(5, 10):
        assert playout.on_frame(mouth(k, 11 + k))
    playout.tick(None), playout.tick(None)
    assert [p.frame for p in playing(playout, 5, 5)] == [mouth(k, 11 + k) for k in range(5, 10)]


def test_an_underrun_in_the_middle_of_a_frame_shows_that_frame_again() -> None:
    fps = Fraction(30)
    playout = Playout(N, fps)
    playout.begin_turn(1, 1, 0)
    for k in range(4):
        playout.on_frame(mouth(k, k, fps=fps))
    playing(playout, 4)
    playout.tick(None)
    sample = frame_start(3, fps) + 100
    anchor = playout.resume(sample, 0)
    assert anchor is not None and anchor.loop_index == 5
    for k in range(3, 30):
        assert playout.on_frame(mouth(k, k + 2, fps=fps))
    shown = [playout.tick(sample + frame_start(j, fps)).frame for j in range(27)]
    assert shown == [mouth(k, k + 2, fps=fps) for k in range(3, 30)]


def test_a_tick_that_finds_the_body_elsewhere_anchors_anew_by_itself() -> None:
    playout = speaking(20)
    playing(playout, 5)
    playout.skip(2)  # the clock missed two ticks, the audio did not
    assert playing(playout, 1, 7) == [Picture(10, mouth(7, 10))]
    playout.tick(None)  # one tick without audio
    assert playing(playout, 1, 8)[0].frame is None
    anchor = playout.anchor
    assert anchor is not None and (anchor.sample, anchor.loop_index) == (frame_start(8, FPS), 12)
    assert playout.on_frame(mouth(9, 13))


def test_frames_beyond_any_window_are_not_kept() -> None:
    playout = speaking(100)
    for k in range(100, 500):
        playout.on_frame(mouth(k, 3 + k))
    assert playout.buffered == 100


def test_no_loop_no_playout() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Playout(0, FPS)
