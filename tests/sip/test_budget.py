"""How lines are shared among sources: properties of the budget under any order of events, and its cases."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.sip.agent.budget import (
    ACK_SECONDS,
    FULL,
    MOST_HALF_OPEN,
    SETTING_UP,
    SHARE_TAKEN,
    TOO_MANY,
    TOO_MANY_HALF_OPEN,
    LineBudget,
    Verdict,
)
from orchestrator.sip.transaction.timers import T1

TRUNK = "192.0.2.1"
STRANGERS = [f"10.0.0.{number}" for number in range(1, 6)]
serial = itertools.count()


@dataclass(eq=False)
class Call:
    source: tuple[str, int]
    half_open: bool = True
    began_at: float = 0.0
    answered_at: float | None = None


def calls(source: str, count: int, *, half_open: bool = True, at: float = 0.0) -> list[Call]:
    return [Call((source, 5060), half_open, at, at) for _ in range(count)]


class House(RuleBasedStateMachine):
    """Any traffic: strangers and a trunk call, answer, acknowledge or do not, and hang up."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.calls: list[Call] = []
        self.budget = LineBudget(12, 12)

    def of(self, source: str, *, half_open: bool = False) -> list[Call]:
        return [c for c in self.calls if c.source[0] == source and (c.half_open or not half_open)]

    @rule(source=st.sampled_from([*STRANGERS, TRUNK]), times=st.integers(1, 10))
    def arrive(self, source: str, times: int) -> None:
        for _ in range(times):
            self.one(source)

    def one(self, source: str) -> None:
        before = list(self.calls)
        verdict = self.budget.judge(before, source, self.now, {TRUNK})
        gone = [*verdict.overdue, *([verdict.replaced] if verdict.replaced else [])]
        assert all(call.half_open for call in gone), "only half-open calls ever give way"
        if verdict.overdue:
            assert len(before) == self.budget.lines
        if verdict.replaced:
            assert not verdict.refused
            assert verdict.replaced.source[0] != source
            rank = len(self.of(verdict.replaced.source[0], half_open=True))
            mine = 0 if source == TRUNK else len(self.of(source, half_open=True))
            assert rank > mine, "nobody gives way to one who holds more"
        self.calls = [call for call in self.calls if call not in gone]
        if verdict.refused:
            if verdict.ours and source != TRUNK:
                most = max((len(self.of(s, half_open=True)) for s in STRANGERS if s != source), default=0)
                assert most < len(self.of(source, half_open=True)) + 2, "somebody else is hogging the lines"
            return
        self.calls.append(Call((source, 5060), True, self.now, None))
        if source != TRUNK and len(self.calls) > self.budget.lines * 0.75:
            assert len(self.of(source)) <= self.budget.share

    @precondition(lambda self: self.calls)
    @rule(data=st.data(), what=st.sampled_from(["answer", "acknowledge", "end"]))
    def progress(self, data: st.DataObject, what: str) -> None:
        call = data.draw(st.sampled_from(self.calls))
        if what == "end":
            self.calls.remove(call)
        elif what == "answer" and call.answered_at is None:
            call.answered_at = self.now
        elif what == "acknowledge" and call.answered_at is not None:
            call.half_open = False

    @rule(seconds=st.sampled_from([0.1, T1, ACK_SECONDS]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def bounded(self) -> None:
        assert len(self.calls) <= self.budget.lines
        assert sum(call.half_open for call in self.calls) <= self.budget.half_open_lines
        assert all(len(self.of(source, half_open=True)) <= MOST_HALF_OPEN for source in STRANGERS)


TestHouse = House.TestCase


@given(lines=st.integers(1, 1000))
def test_the_bounds_fit_any_number_of_lines(lines: int) -> None:
    budget = LineBudget(lines, lines)
    assert 1 <= budget.half_open_lines <= lines
    assert 1 <= budget.share <= lines
    assert budget.half_open_lines <= max(4, lines * 0.2 + 0.5)
    assert budget.share <= max(1, lines / 4)


@given(flooded=st.integers(0, 3000), lines=st.integers(10, 200))
def test_one_silent_source_never_keeps_another_out(flooded: int, lines: int) -> None:
    """Its INVITEs come in any number at one moment; then a phone calls."""
    budget = LineBudget(lines, lines)
    held: list[Call] = []
    for _ in range(min(flooded, 2 * lines)):
        if not budget.judge(held, "10.0.0.66", 0.0, ()).refused:
            held += calls("10.0.0.66", 1)
    assert len(held) <= MOST_HALF_OPEN
    assert not budget.judge(held, "10.0.0.2", 0.0, ()).refused


def judge(
    held: list[Call], source: str = "10.0.0.9", *, lines: int = 40, now: float = 0.0, trunk: str = TRUNK
) -> Verdict[Call]:
    return LineBudget(lines, lines).judge(held, source, now, {trunk})


@pytest.mark.parametrize(
    ("held", "source", "refused"),
    [
        (calls("10.0.0.9", 7), "10.0.0.9", ""),
        (calls("10.0.0.9", 8), "10.0.0.9", TOO_MANY_HALF_OPEN),
        (calls(TRUNK, 7), TRUNK, ""),
        (calls(TRUNK, 8), TRUNK, SETTING_UP),  # 8 of 40 lines: the bound of all together
        (calls("10.0.0.9", 29, half_open=False), "10.0.0.9", ""),
        (calls("10.0.0.9", 30, half_open=False), "10.0.0.9", SHARE_TAKEN),
        (calls(TRUNK, 39, half_open=False), TRUNK, ""),
        (calls(TRUNK, 40, half_open=False), TRUNK, FULL),
        (calls("10.0.0.9", 30, half_open=False), "10.0.0.8", ""),
        (calls("10.0.0.9", 30, half_open=False) + calls("10.0.0.8", 9, half_open=False), "10.0.0.8", ""),
        (calls("10.0.0.9", 29, half_open=False) + calls("10.0.0.8", 10, half_open=False), "10.0.0.8", SHARE_TAKEN),
    ],
)  # fmt: skip
def test_who_is_refused_and_why(held: list[Call], source: str, refused: str) -> None:
    assert judge(held, source).refused == refused


def test_a_limit_of_calls_per_source_holds_for_trunks_too() -> None:
    verdict = LineBudget(40, 2).judge(calls(TRUNK, 2, half_open=False), TRUNK, 0.0, {TRUNK})
    assert verdict.refused == TOO_MANY


def test_the_oldest_of_the_source_that_holds_most_gives_way() -> None:
    hog = calls("10.0.0.66", 3, at=1.0) + calls("10.0.0.66", 2, at=0.5) + calls("10.0.0.66", 1, at=0.7)
    held = [*calls("10.0.0.2", 2, at=0.0), *hog]
    verdict = judge(held, now=1.0)
    assert verdict.replaced is hog[3] and not verdict.refused


def test_single_half_open_calls_have_the_time_of_a_repeated_answer() -> None:
    held = [call for n in range(8) for call in calls(f"10.0.1.{n}", 1, at=n / 100)]
    assert judge(held, now=T1 - 0.1).refused == SETTING_UP
    assert judge(held, now=T1).replaced is held[0]
    for call in held:
        call.answered_at = None  # it still rings: the delay is ours
    assert judge(held, now=60.0).refused == SETTING_UP


def test_a_trunk_is_not_replaced_before_its_ack_is_due() -> None:
    held = calls(TRUNK, 8)
    assert judge(held, now=ACK_SECONDS - 0.1).refused == SETTING_UP
    assert judge(held, now=ACK_SECONDS).replaced is held[0]


def test_acks_are_overdue_sooner_only_while_all_lines_are_taken() -> None:
    quiet = calls("10.0.0.66", 5) + calls(TRUNK, 34, half_open=False)
    assert judge(quiet, TRUNK, now=30.0).overdue == ()
    full = [*quiet, *calls(TRUNK, 1, half_open=False)]
    assert judge(full, TRUNK, now=ACK_SECONDS - 0.1).overdue == ()
    assert judge(full, TRUNK, now=ACK_SECONDS) == Verdict(overdue=tuple(quiet[:5]))
    ringing = Call(("10.0.0.5", 5060))
    assert judge([*full[1:], ringing], TRUNK, now=60.0).overdue == tuple(quiet[1:5])
