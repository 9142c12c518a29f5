"""Wrong passwords: who guesses has to wait longer each time."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

FREE = 3
LONGEST = 300.0
FORGOTTEN_AFTER = 3600.0
MAX_KEPT = 4096


@dataclass(slots=True)
class _Record:
    failures: int = 0
    last: float = 0.0
    until: float = 0.0


class Guesses:
    """Delays per user name and source address, growing from one second to LONGEST after FREE wrong passwords.

    A delay holds for new calls of that user from that address only. The longest quiet are forgotten first.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._records: OrderedDict[tuple[str, str], _Record] = OrderedDict()

    def wait(self, user: str, source: str) -> int:
        """Seconds until the next password of `user` from `source` is looked at; 0: now."""
        record = self._records.get((user, source))
        return max(0, math.ceil(record.until - self._now())) if record else 0

    def failed(self, user: str, source: str) -> None:
        """That was a wrong one."""
        now, key = self._now(), (user, source)
        record = self._records.setdefault(key, _Record())
        self._records.move_to_end(key)
        if now - record.last > FORGOTTEN_AFTER:
            record.failures = 0
        record.failures, record.last = record.failures + 1, now
        if record.failures > FREE:
            record.until = now + min(2.0 ** min(record.failures - FREE - 1, 30), LONGEST)
        if len(self._records) > MAX_KEPT:
            self._records.popitem(last=False)

    def succeeded(self, user: str, source: str) -> None:
        """That was the right one: what was before is forgotten."""
        self._records.pop((user, source), None)
