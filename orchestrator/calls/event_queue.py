"""Events that wait for one listener: calls in turn, each with a share of its own. Without I/O."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from orchestrator.calls.event import CallEvent

PER_CALL = 100
ORDINARY = 2000
LASTING = 10_000


@dataclass(slots=True)
class _Waiting:
    """One call's events, the oldest first, each with how many before it were left out."""

    events: deque[CallEvent] = field(default_factory=deque)
    ordinary: int = 0
    lost: int = 0
    """Left out with nothing behind them yet: the next event says so."""
    busy: bool = False


class FairQueue:
    """Hands out one event of a call after the other, calls in turn.

    A call whose event was taken gets no other turn until ``done``, so that its events stay in order however many
    are on their way. Of a call ``per_call`` ordinary events wait, ``ordinary`` of all calls; beyond that the oldest
    of the call with the most are left out, and the event after the gap tells how many (``lost``). ``answered`` and
    ``ended`` are never left out for others' sake, only beyond ``lasting`` of their own.
    """

    def __init__(self, per_call: int = PER_CALL, ordinary: int = ORDINARY, lasting: int = LASTING) -> None:
        self._per_call, self._most_ordinary, self._most_lasting = per_call, ordinary, lasting
        self._calls: dict[str, _Waiting] = {}
        self._turns: deque[str] = deque()
        self._ordinary = self._lasting = 0

    def __len__(self) -> int:
        return self._ordinary + self._lasting

    @property
    def idle(self) -> bool:
        """Whether nothing waits and nothing is on its way."""
        return not len(self) and not any(call.busy for call in self._calls.values())

    def put(self, event: CallEvent) -> list[CallEvent]:
        """Let an event wait; returns those that were left out for it."""
        call = self._calls.get(event.call_id)
        if call is None:
            call = self._calls[event.call_id] = _Waiting()
        if call.lost:
            event, call.lost = replace(event, lost=event.lost + call.lost), 0
        if not call.events and not call.busy:
            self._turns.append(event.call_id)
        call.events.append(event)
        self._count(call, event, 1)
        left_out = []
        if call.ordinary > self._per_call:
            left_out.append(self._leave_out(call))
        elif self._ordinary > self._most_ordinary:
            left_out.append(self._leave_out(max(self._calls.values(), key=lambda each: each.ordinary)))
        if self._lasting > self._most_lasting:
            left_out.append(self._leave_out(self._oldest(), lasting=True))
        for each in left_out:
            if each.kind == "ended":
                self._forget(each.call_id)
        return left_out

    def take(self) -> CallEvent | None:
        """The next event, whose call waits until ``done``."""
        while self._turns:
            call = self._calls.get(self._turns.popleft())
            if call is None or call.busy or not call.events:
                continue
            event = call.events.popleft()
            self._count(call, event, -1)
            call.busy = True
            return event
        return None

    def done(self, call_id: str) -> None:
        """The call's event has been dealt with: its next one may be taken."""
        call = self._calls.get(call_id)
        if call is None:
            return
        call.busy = False
        if call.events:
            self._turns.append(call_id)
        elif not call.lost:
            del self._calls[call_id]

    def put_back(self, event: CallEvent) -> None:
        """The event that was taken could not be dealt with: it comes first again, after ``done``."""
        call = self._calls[event.call_id]
        call.events.appendleft(event)
        self._count(call, event, 1)

    def lose(self, event: CallEvent) -> None:
        """The event that was taken is given up: the next one of its call tells so."""
        call = self._calls[event.call_id]
        self._tell(call, 0, event.lost + 1)

    def lasting(self) -> Iterator[CallEvent]:
        """Every ``answered`` and ``ended`` that waits."""
        return (event for call in self._calls.values() for event in call.events if event.lasting)

    def _leave_out(self, call: _Waiting, *, lasting: bool = False) -> CallEvent:
        index = next(i for i, event in enumerate(call.events) if event.lasting is lasting)
        event = call.events[index]
        del call.events[index]
        self._count(call, event, -1)
        self._tell(call, index, event.lost + 1)
        return event

    def _forget(self, call_id: str) -> None:
        call = self._calls[call_id]
        if not call.events and not call.busy:
            del self._calls[call_id]

    def _tell(self, call: _Waiting, index: int, lost: int) -> None:
        if index < len(call.events):
            after = call.events[index]
            call.events[index] = replace(after, lost=after.lost + lost)
        else:
            call.lost += lost

    def _oldest(self) -> _Waiting:
        with_lasting = (call for call in self._calls.values() if len(call.events) > call.ordinary)
        return next(with_lasting)

    def _count(self, call: _Waiting, event: CallEvent, by: int) -> None:
        if event.lasting:
            self._lasting += by
        else:
            self._ordinary += by
            call.ordinary += by
