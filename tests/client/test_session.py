"""What a conversation says to its servers, and when it takes one for stalled: a clock made by hand."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visavis.client.messages import (
    Anchor,
    Audio,
    EndOfTurn,
    Interrupt,
    Interrupted,
    Playhead,
    Request,
    TurnAccepted,
    TurnFinished,
    TurnRejected,
    TurnStart,
)
from visavis.client.model import Avatar, Opened
from visavis.client.session import FINISH_S, SessionProtocol
from visavis.frames import SAMPLE_RATE, Frame, frame_start

FPS = Fraction(25)
OPENED = Opened(Avatar("a", "b", b"", 64, 48, FPS, 50), "i420", "rectangle", None, 100, 500, 400, 3)
SECOND = bytes(2 * SAMPLE_RATE)


def talking(seconds: int = 2, turn: int = 1, epoch: int = 1) -> SessionProtocol:
    talk = SessionProtocol(FPS)
    talk.attach(OPENED)
    talk.start_turn(turn, epoch)
    talk.anchor(0, 7)
    talk.playhead(0, True, 0.0)
    talk.push_audio(SECOND * seconds, 0.0)
    return talk


def said(talk: SessionProtocol) -> list[Request]:
    requests = []
    while (request := talk.next_request()) is not None:
        requests.append(request)
    return requests


def frame(k: int, turn: int = 1, epoch: int = 1, last: bool = False) -> Frame:
    return Frame(turn, epoch, frame_start(k, FPS), (7 + k) % 50, "body", last=last)


def audio(requests: list[Request]) -> bytes:
    """The PCM, checked to be contiguous."""
    pieces = [r for r in requests if isinstance(r, Audio)]
    for one, other in itertools.pairwise(pieces):
        assert other.first_sample == one.first_sample + len(one.pcm) // 2
    return b"".join(p.pcm for p in pieces)


def test_a_turn_is_told_in_order() -> None:
    talk = talking()
    talk.end_turn()
    requests = said(talk)
    assert requests[:3] == [TurnStart(1, 1, 0), Anchor(1, 1, 0, 7), Playhead(1, 1, 0, True)]
    assert requests[-1] == EndOfTurn(1, 1)
    assert audio(requests) == SECOND * 2
    talk.playhead(640, True, 0.0)
    talk.playhead(1280, True, 0.0)
    assert said(talk) == [Playhead(1, 1, 1280, True)]  # only the newest counts


def test_a_second_turn_begins_when_the_first_has_been_told() -> None:
    talk = talking()
    talk.start_turn(2, 1)
    talk.push_audio(SECOND, 0.0)
    kinds = [type(r).__name__ for r in said(talk)]
    assert kinds.index("EndOfTurn") < len(kinds) - 1 - kinds[::-1].index("TurnStart")
    assert talk.on_message(frame(3)) == [frame(3)]
    assert talk.on_message(TurnFinished(1, 4, 0)) == [TurnFinished(1, 1, 0)]
    assert talk.on_message(TurnFinished(1, 4, 0)) == []  # one report a turn


def test_interrupt_goes_before_everything_and_frames_of_the_old_epoch_are_dead() -> None:
    talk = talking(seconds=60)
    talk.next_request()
    assert talk.interrupt(2, 0.0) == []
    assert said(talk) == [Interrupt(2)]
    assert talk.on_message(frame(1)) == []
    assert talk.on_message(Interrupted(2)) == [Interrupted(2)]
    assert talk.on_message(Interrupted(2)) == []


def test_an_interrupt_that_nobody_confirms_is_confirmed_by_us() -> None:
    talk = talking()
    talk.interrupt(2, 10.0)
    assert talk.deadline == 11.0 and talk.check(10.9) == []
    assert talk.check(11.0) == [Interrupted(2)]
    talk = talking()
    talk.interrupt(2, 10.0)
    assert talk.detach() == [Interrupted(2)]
    assert talk.interrupt(2, 10.0) == []  # nothing was on


def test_interrupt_without_a_server_is_confirmed_at_once() -> None:
    talk = SessionProtocol(FPS)
    talk.start_turn(1, 1)
    assert talk.interrupt(2, 0.0) == [Interrupted(2)]


def test_epochs_and_ids_go_forward() -> None:
    talk = talking(epoch=3)
    with pytest.raises(ValueError, match="epoch 2 is over"):
        talk.start_turn(2, 2)
    with pytest.raises(ValueError, match="turn 1 has been started"):
        talk.start_turn(1, 3)


def test_the_turn_is_finished_by_the_clock_where_the_server_says_nothing() -> None:
    talk = talking(seconds=1)
    talk.end_turn()
    said(talk)
    talk.on_message(frame(0))
    talk.playhead(SAMPLE_RATE // 2, True, 100.0)
    assert talk.deadline == pytest.approx(100.5 + FINISH_S)
    assert talk.check(100.4 + FINISH_S) == []
    assert talk.check(100.5 + FINISH_S) == [TurnFinished(1, 1, 0)]
    assert talk.deadline is None and talk.on_message(TurnFinished(1, 25, 0)) == []


def test_a_rejected_turn_is_told_no_further() -> None:
    talk = talking()
    talk.next_request()
    assert talk.on_message(TurnRejected(1, "full")) == []
    assert talk.rejected and said(talk) == []
    talk.detach()
    assert talk.attach(OPENED) == 1
    assert said(talk)[0] == TurnStart(1, 1, 0)
    assert talk.on_message(TurnAccepted(1)) == [TurnAccepted(1)]


def test_a_resumed_turn_brings_its_history_and_its_anchor() -> None:
    talk = talking(seconds=20)
    said(talk)
    for k in range(10 * 25 + 10):
        talk.on_message(frame(k))
    talk.playhead(10 * SAMPLE_RATE, True, 0.0)
    assert talk.detach() == []
    assert talk.attach(OPENED) == 1
    requests = said(talk)
    wanted = frame_start(260, FPS)  # what was received need not be drawn again
    head = Playhead(1, 1, 10 * SAMPLE_RATE, True)
    assert requests[:3] == [TurnStart(1, 1, wanted), Anchor(1, 1, 0, 7), head]
    first = next(r for r in requests if isinstance(r, Audio)).first_sample
    assert first == 5 * SAMPLE_RATE
    assert len(audio(requests)) == len(SECOND) * 15


def test_what_was_missed_while_no_server_was_there_is_not_asked_for() -> None:
    talk = talking(seconds=20)
    said(talk)
    talk.on_message(frame(3))
    talk.detach()
    talk.playhead(8 * SAMPLE_RATE + 100, True, 0.0)
    talk.attach(OPENED)
    assert said(talk)[0] == TurnStart(1, 1, 8 * SAMPLE_RATE + 100)


def test_after_an_underrun_frames_are_wanted_from_the_new_anchor_on() -> None:
    talk = talking(seconds=4)
    said(talk)
    for k in range(60):
        talk.on_message(frame(k))
    talk.playhead(2 * SAMPLE_RATE, True, 0.0)
    talk.anchor(2 * SAMPLE_RATE, 33)
    assert said(talk) == [Anchor(1, 1, 2 * SAMPLE_RATE, 33), Playhead(1, 1, 2 * SAMPLE_RATE, True)]
    talk.detach()
    talk.attach(OPENED)
    requests = said(talk)
    assert requests[0] == TurnStart(1, 1, 2 * SAMPLE_RATE)
    assert [r for r in requests if isinstance(r, Anchor)][-1] == Anchor(1, 1, 2 * SAMPLE_RATE, 33)


def test_a_turn_that_has_all_its_frames_is_not_resumed_but_reported() -> None:
    talk = talking(seconds=1)
    talk.end_turn()
    said(talk)
    for k in range(25):
        talk.on_message(frame(k))
    assert not talk.busy and talk.unfinished  # the mouth is still to close
    for k in range(25, 28):
        talk.on_message(frame(k, last=k == 27))
    assert not talk.unfinished
    assert talk.detach() == [TurnFinished(1, 28, 0)]
    assert talk.attach(OPENED) is None and said(talk) == []
    talk.playhead(frame_start(24, FPS), True, 1.0)  # it is still heard; this server does not know it
    assert said(talk) == []


def test_silence_while_frames_are_due_is_a_stall() -> None:
    talk = talking()
    said(talk)
    assert not any(talk.stalled(t / 100, 0.28) for t in range(0, 28, 4))
    assert talk.stalled(0.28, 0.28)
    talk.on_message(frame(0))
    assert not talk.stalled(0.30, 0.28)


def test_a_pause_of_our_own_machine_is_no_stall() -> None:
    talk = talking()
    said(talk)
    assert not talk.stalled(0.0, 0.28)
    assert not talk.stalled(0.9, 0.28)  # nobody looked for a second: frames may lie unread
    assert not talk.stalled(0.94, 0.28)
    assert talk.stalled(1.04, 0.28) is False and talk.stalled(1.14, 0.28)


def test_silence_is_no_stall_where_nothing_is_due() -> None:
    talk = talking(seconds=0)  # no audio
    assert not any(talk.stalled(t, 0.28) for t in (0.0, 1.0))
    talk = talking()
    for k in range(11):  # the window is full
        talk.on_message(frame(k))
    assert not any(talk.stalled(t, 0.28) for t in (0.0, 1.0))
    talk.playhead(SAMPLE_RATE, False, 0.0)  # nobody listens
    assert not any(talk.stalled(t, 0.28) for t in (0.0, 1.0))
    talk.playhead(SAMPLE_RATE, True, 0.0)
    talk.detach()  # no server
    assert not any(talk.stalled(t, 0.28) for t in (0.0, 1.0))


def test_what_the_engine_still_needs_is_not_due() -> None:
    talk = talking(seconds=0)
    talk.push_audio(bytes(2 * frame_start(4, FPS)), 0.0)  # 160 ms, 100 of them look-ahead
    assert not any(talk.stalled(t, 0.28) for t in (0.0, 1.0))
    talk.end_turn()
    assert not talk.stalled(2.0, 0.28)
    assert [talk.stalled(t, 0.28) for t in (2.1, 2.2, 2.3)] == [False, False, True]


def test_a_very_long_turn_keeps_a_bounded_amount_of_audio() -> None:
    talk = talking(seconds=0)
    for second in range(1200):
        talk.push_audio(SECOND, 0.0)
        talk.playhead(second * SAMPLE_RATE, True, 0.0)
        said(talk)
    assert talk.turn is not None and len(talk.turn._pcm) < 12 * len(SECOND)
    assert talk.dropped_samples == 0
    talk.push_audio(SECOND * 700, 0.0)
    assert talk.dropped_samples > 0


@given(
    chunks=st.lists(st.integers(1, 40_000), min_size=1, max_size=12),
    losses=st.lists(st.integers(0, 11), max_size=3),
    heads=st.lists(st.integers(0, 200_000), min_size=12, max_size=12).map(sorted),
)
def test_every_server_gets_contiguous_audio_to_the_end(
    chunks: list[int], losses: list[int], heads: list[int]
) -> None:
    """Wherever servers are lost and whatever was heard: PCM is right, in order, and reaches the end."""
    talk = SessionProtocol(FPS)
    talk.attach(OPENED)
    talk.start_turn(1, 1)
    talk.anchor(0, 0)
    pcm = bytearray()
    told: list[Request] = []
    for i, samples in enumerate(chunks):
        piece = bytes((len(pcm) // 2 + j) % 251 for j in range(samples) for _ in (0, 1))
        pcm += piece
        talk.push_audio(piece, 0.0)
        talk.playhead(min(heads[i], len(pcm) // 2), True, 0.0)
        if i in losses:
            talk.detach()
            talk.attach(OPENED)
            told = []
        told += said(talk)
    talk.end_turn()
    told += said(talk)
    pieces = [r for r in told if isinstance(r, Audio)]
    if pieces:
        first = pieces[0].first_sample
        assert audio(told) == bytes(pcm[first * 2 :])
        start = next(r for r in told if isinstance(r, TurnStart))
        assert first <= max(0, start.render_from_sample - 5 * SAMPLE_RATE) or first == 0
        assert isinstance(told[-1], EndOfTurn)
