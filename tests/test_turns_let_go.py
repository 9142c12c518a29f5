"""What a conversation or a call holds after ten thousand turns: no more than after a hundred. No sleeps."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import AsyncIterator
from fractions import Fraction

import numpy as np
import pytest

from orchestrator.calls.events import EventBus
from orchestrator.calls.turns import ENDED_TURNS_KEPT, MAX_QUEUED_TURNS
from orchestrator.speech.base import PCM, VoiceByLanguage
from tests.support.calls import ENDED, answered_call, report
from visavis.client.messages import EndOfTurn, Event, Request, TurnFinished, TurnRejected, TurnStart
from visavis.client.model import Avatar, Opened
from visavis.client.session import FINISH_S, SessionProtocol
from visavis.client.turn import ResumableTurn
from visavis.frames import SAMPLE_RATE, Frame

FPS = Fraction(25)
OPENED = Opened(Avatar("a", "b", b"", 64, 48, FPS, 50), "i420", "rectangle", None, 100, 500, 400, 3)
SECOND = bytes(2 * SAMPLE_RATE)
TURNS = 10_000


def told(talk: SessionProtocol) -> list[Request]:
    requests = []
    while (request := talk.next_request()) is not None:
        requests.append(request)
    return requests


def speak(talk: SessionProtocol, turn: int, now: float, seconds: int = 1) -> None:
    """A turn from its first sample to the playhead at its end."""
    talk.start_turn(turn, 1)
    talk.anchor(0, 7)
    talk.playhead(0, True, now)
    talk.push_audio(SECOND * seconds, now)
    talk.end_turn()
    talk.playhead(SAMPLE_RATE * seconds, True, now + seconds)


def held() -> int:
    return sum(isinstance(thing, ResumableTurn) for thing in gc.get_objects())


def finished(events: list[Event]) -> list[int]:
    return [event.turn_id for event in events if isinstance(event, TurnFinished)]


def test_ten_thousand_turns_leave_one_in_memory() -> None:
    talk = SessionProtocol(FPS)
    talk.attach(OPENED)
    gc.collect()
    before, gc_was = held(), gc.isenabled()
    gc.disable()  # a turn is let go of at once, not when garbage is collected
    try:
        tracemalloc.start()
        sizes = []
        for turn in range(1, TURNS + 1):
            speak(talk, turn, float(turn))
            told(talk)
            talk.on_message(Frame(turn, 1, 0, 7, "body"))
            assert finished(talk.on_message(TurnFinished(turn, 1, 0))) == [turn]
            if turn in (TURNS // 10, TURNS):
                sizes.append(tracemalloc.get_traced_memory()[0])
        assert held() - before == 1
        assert sizes[1] - sizes[0] < len(SECOND)
    finally:
        tracemalloc.stop()
        if gc_was:
            gc.enable()


def test_a_request_costs_the_same_after_ten_thousand_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = 0
    ask = ResumableTurn.next_request

    def counted(self: ResumableTurn) -> Request | None:
        nonlocal asked
        asked += 1
        return ask(self)

    talk = SessionProtocol(FPS)
    talk.attach(OPENED)
    for turn in range(1, TURNS + 1):
        talk.start_turn(turn, 1)
        talk.end_turn()
        told(talk)
        talk.on_message(TurnFinished(turn, 0, 0))
    monkeypatch.setattr(ResumableTurn, "next_request", counted)
    assert talk.next_request() is None
    assert asked == 1


def test_turns_that_a_server_never_reports_are_let_go_by_the_clock() -> None:
    talk = SessionProtocol(FPS)
    talk.attach(OPENED)
    gc.collect()
    before = held()
    reported = []
    for turn in range(1, 1001):
        speak(talk, turn, float(turn))
        told(talk)
        reported += finished(talk.check(float(turn)))
    assert held() - before <= FINISH_S + 3
    assert talk.deadline is not None
    reported += finished(talk.check(1000 + 2 * FINISH_S))
    assert reported == list(range(1, 1001))
    assert talk.deadline is None


def test_turns_without_a_server_are_let_go_and_reported_once() -> None:
    talk = SessionProtocol(FPS)
    gc.collect()
    before = held()
    reported = []
    for turn in range(1, 1001):
        speak(talk, turn, float(turn))
        reported += finished(talk.check(float(turn)))
    assert held() - before <= FINISH_S + 3
    talk.attach(OPENED)
    assert {r.turn_id for r in told(talk) if isinstance(r, TurnStart)} <= {1000}
    reported += finished(talk.check(1000 + 2 * FINISH_S))
    assert reported == list(range(1, 1001))


def test_rejected_turns_are_let_go_and_told_no_further() -> None:
    talk = SessionProtocol(FPS)
    talk.attach(OPENED)
    gc.collect()
    before = held()
    for turn in range(1, 1001):
        talk.start_turn(turn, 1)
        talk.playhead(0, True, float(turn))
        assert type(told(talk)[0]) is TurnStart
        talk.on_message(TurnRejected(turn, "full"))
        talk.push_audio(SECOND, float(turn))
        talk.end_turn()
        assert told(talk) == []
        talk.playhead(SAMPLE_RATE, True, float(turn) + 1)
        talk.check(float(turn))
    assert held() - before <= FINISH_S + 3


def test_a_turn_that_was_finished_by_the_clock_is_still_told_to_its_end() -> None:
    talk = SessionProtocol(FPS)
    talk.attach(OPENED)
    speak(talk, 1, 0.0)  # the link was jammed: the server has been told nothing
    assert finished(talk.check(1 + FINISH_S)) == [1]
    talk.start_turn(2, 1)
    requests = told(talk)
    assert requests[0] == TurnStart(1, 1, 0)
    assert requests.index(EndOfTurn(1, 1)) < requests.index(TurnStart(2, 1, 0))
    assert finished(talk.on_message(TurnFinished(1, 0, 0))) == []  # it has been reported


async def _nothing() -> AsyncIterator[PCM]:
    yield np.zeros(160, np.int16)


async def test_a_call_shows_its_last_turns_and_every_one_under_way() -> None:
    call = answered_call(VoiceByLanguage({}), EventBus())
    for number in range(1, TURNS + 1):
        turn = call.play(_nothing(), 8000)
        assert turn.turn_id == number
        report(call, "started", number, 0.0, 100.0)
        report(call, "finished", number, 20.0, 0.0)
        if number % 100 == 0:
            await asyncio.sleep(0)
    assert [turn.turn_id for turn in call.turns] == list(range(TURNS - ENDED_TURNS_KEPT + 1, TURNS + 1))
    waiting = [call.play(_nothing(), 8000) for _ in range(MAX_QUEUED_TURNS)]
    assert len(call.turns) == ENDED_TURNS_KEPT + MAX_QUEUED_TURNS
    call.interrupt()
    assert all(turn.state == "interrupted" for turn in waiting)
    assert len(call.turns) == ENDED_TURNS_KEPT
    assert call.turns[-1] is waiting[-1]
    call.on_end(ENDED)
    await asyncio.sleep(0)
