"""When what happened in a caller's turn, and how long each step took until its answer was heard."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Moments:
    """Of the caller's last turn, by the event loop's clock; 0.0: not yet.

    ``quiet``: the end of the last word; ``words``: it was recognised; ``answered``: the turn was over; ``written``:
    the assistant had begun.
    """

    began: float = 0.0
    quiet: float = 0.0
    words: float = 0.0
    answered: float = 0.0
    written: float = 0.0

    def spoken(self, now: float, epoch: float) -> tuple[float, float]:
        """When the caller began and ended, as seconds since the epoch, which is ``epoch`` now."""
        ended = epoch - (now - self.quiet if self.quiet else 0.0)
        return min(ended, epoch - (now - self.began)), ended

    def steps(self, now: float, wait_ms: float) -> dict[str, int]:
        """Milliseconds of each step, up to a voice that has begun ``now`` and is heard after ``wait_ms``."""
        return {
            "words_ms": round((self.words - self.quiet) * 1000),
            "end_of_turn_ms": round((self.answered - self.quiet) * 1000),
            "assistant_ms": round((self.written - self.answered) * 1000),
            "voice_ms": round((now - self.written) * 1000),
            "lips_ms": round(wait_ms),
            "total_ms": round((now - self.quiet) * 1000 + wait_ms),
        }
