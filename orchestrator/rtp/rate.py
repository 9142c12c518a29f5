"""How many bits per second of video a peer gets: less on loss, slowly more again. Sans-IO."""

from __future__ import annotations

LOSSY = 0.05
CLEAN = 0.02
LOWERED_TO = 0.7
RAISED_TO = 1.3
_LOSSY_REPORTS = 2
_CLEAN_SECONDS = 10.0
_SHORTEST_INTERVAL = 1.5
_LEAST_SHARE = 0.25
_LEAST = 128_000
_LEAST_ASKED = 64_000


class RateControl:
    """``target`` is at most ``ceiling``, what was negotiated.

    Two reports in a row (RFC 3550 section 6.4) with more than ``LOSSY`` lost lower it, ten seconds of reports
    below ``CLEAN`` raise it; loss alone never takes it below a quarter of the ceiling. What the peer asks for
    with REMB or TMMBR holds at once.
    """

    def __init__(self, ceiling: int) -> None:
        self.ceiling = ceiling
        self.lowered = 0
        self._rate = float(ceiling)
        self._asked = float(ceiling)
        self._lossy = 0
        self._changed = float("-inf")
        self._clean_since: float | None = None

    @property
    def target(self) -> int:
        """Bits per second."""
        return int(min(self._rate, self._asked))

    def report(self, fraction_lost: float, now: float) -> None:
        """A report block about our stream; ``now`` in seconds of any clock."""
        if fraction_lost > CLEAN:
            self._clean_since = None
        elif self._clean_since is None:
            self._clean_since = now
        self._lossy = self._lossy + 1 if fraction_lost > LOSSY else 0
        if self._lossy >= _LOSSY_REPORTS and now - self._changed >= _SHORTEST_INTERVAL:
            floor = min(self.ceiling, max(_LEAST, self.ceiling * _LEAST_SHARE))
            lower = max(floor, self._rate * LOWERED_TO)
            if lower < self._rate:
                self._rate, self._changed = lower, now
                self.lowered += 1
        elif self._clean_since is not None and now - self._clean_since >= _CLEAN_SECONDS:
            self._rate = min(float(self.ceiling), self._rate * RAISED_TO)
            self._clean_since = self._changed = now

    def limit(self, bits_per_second: int) -> None:
        """The peer can take so much: REMB or TMMBR."""
        self._asked = float(min(self.ceiling, max(_LEAST_ASKED, bits_per_second)))
