"""The budget of lines: bounds of calls that are not acknowledged yet, and fair shares per source address."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from orchestrator.sip.transaction.timers import T1

MOST_HALF_OPEN = 8
"""Half-open calls of one source address."""
HALF_OPEN_LINES, LEAST_HALF_OPEN = 0.2, 4
"""Part of the lines that half-open calls may take, and how many they may where lines are few."""
CROWDED_LINES = 0.75
"""Part of the lines in use beyond which one source holds no more than SHARE of them."""
SHARE = 0.25
ACK_SECONDS = 4.0
"""How long a 2xx may wait for its ACK while all lines are taken; else it is 64 T1 (RFC 3261 13.3.1.4)."""

FULL = "full: no more calls at once"
SETTING_UP = "full: too many calls are being set up"
TOO_MANY = "too many calls at once from this address"
SHARE_TAKEN = "this address holds its share of the calls"
TOO_MANY_HALF_OPEN = "too many calls from this address that are not acknowledged"


class Holder(Protocol):
    """A call as the budget sees it; moments are seconds of the stack's clock.

    `source` is where the call came from. `half_open`: it came in and is not acknowledged yet. `began_at` is when
    its INVITE came, `answered_at` when the 2xx went out, None before.
    """

    @property
    def source(self) -> tuple[str, int]: ...
    @property
    def half_open(self) -> bool: ...
    @property
    def began_at(self) -> float: ...
    @property
    def answered_at(self) -> float | None: ...


H = TypeVar("H", bound=Holder)


@dataclass(frozen=True, slots=True)
class Verdict(Generic[H]):
    """Whether a call gets a line: `refused` says why not, empty where it does.

    `ours`: the house is full, whoever calls. `overdue` are calls to end in every case, `replaced` is the one
    to end for the sake of the new call.
    """

    refused: str = ""
    ours: bool = False
    overdue: tuple[H, ...] = ()
    replaced: H | None = None


class LineBudget:
    """Shares `lines` among sources, of which each holds `most_per_source` at most.

    An exempt source (a proxy, a trunk) brings the calls of many: its share and its own half-open calls are not
    bounded; all half-open calls together are, its own among them.
    """

    def __init__(self, lines: int, most_per_source: int) -> None:
        self.lines = lines
        self.half_open_lines = min(lines, max(LEAST_HALF_OPEN, round(lines * HALF_OPEN_LINES)))
        self.share = max(1, int(lines * SHARE))
        self._most_per_source = most_per_source

    def judge(self, calls: Sequence[H], source: str, now: float, exempt: Collection[str]) -> Verdict[H]:
        """A call from `source` wants a line beside `calls`.

        `exempt`: which are, of `source` and the sources of half-open calls.
        """
        overdue = self._overdue(calls, now)
        late = set(map(id, overdue))
        calls = [call for call in calls if id(call) not in late]
        half_open = [call for call in calls if call.half_open]
        held = Counter(call.source[0] for call in half_open)
        full = len(calls) >= self.lines
        whole = sum(call.source[0] == source for call in calls)
        if source not in exempt:
            if len(calls) + 1 > self.lines * CROWDED_LINES and whole >= self.share:
                return Verdict(SHARE_TAKEN, overdue=overdue)
            if held[source] >= MOST_HALF_OPEN:
                return Verdict(TOO_MANY_HALF_OPEN, overdue=overdue)
        if whole >= self._most_per_source and not full:
            return Verdict(TOO_MANY, overdue=overdue)
        if not full and len(half_open) < self.half_open_lines:
            return Verdict(overdue=overdue)
        replaced = self._replaceable(half_open, held, source, now, exempt, full=full)
        if replaced is None or whole >= self._most_per_source:
            return Verdict(FULL if full else SETTING_UP, ours=True, overdue=overdue)
        return Verdict(overdue=overdue, replaced=replaced)

    def _overdue(self, calls: Sequence[H], now: float) -> tuple[H, ...]:
        if len(calls) < self.lines:
            return ()
        return tuple(
            call
            for call in calls
            if call.half_open and call.answered_at is not None and now - call.answered_at >= ACK_SECONDS
        )

    @staticmethod
    def _replaceable(
        half_open: Sequence[H],
        held: Counter[str],
        source: str,
        now: float,
        exempt: Collection[str],
        *,
        full: bool,
    ) -> H | None:
        """The oldest half-open call of the source that holds most of them.

        Of a source with at least two more than the new call's, whatever its age: that is no phone waiting for
        its ACK to arrive. Else, while lines are free, one whose ACK has had the time of a repeated 2xx.
        """
        own = 0 if source in exempt else held[source]
        others = [call for call in half_open if call.source[0] != source]
        hogs = [c for c in others if c.source[0] not in exempt and held[c.source[0]] >= own + 2]
        if not hogs and not full:
            hogs = [
                call
                for call in others
                if held[call.source[0]] > own
                and call.answered_at is not None
                and now - call.answered_at >= (ACK_SECONDS if call.source[0] in exempt else T1)
            ]
        if not hogs:
            return None
        most = max(held[call.source[0]] for call in hogs)
        return min((call for call in hogs if held[call.source[0]] == most), key=lambda call: call.began_at)
