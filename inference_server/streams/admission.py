"""Speaking slots: how many streams may speak at once, counted in frames a second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

SLOT_FPS = 25  # frames a second of one slot


def measured_slots(costs: Sequence[tuple[int, float]], batch_ms: float, load: float) -> int:
    """Slots from the engine's cost per bucket: ``load`` of the best throughput of a batch of at most ``batch_ms``.

    At least one: a slow engine draws fewer frames, and that is shown by late frames, not by a mute avatar.
    """
    fitting = [c for c in costs if c[1] <= batch_ms] or list(costs[:1])
    best = max((rows / max(ms, 0.01) * 1000 for rows, ms in fitting), default=0.0)
    return max(1, int(best * load / SLOT_FPS))


def followed_slots(total: int, costs: Sequence[tuple[int, float]], batch_ms: float, load: float) -> int:
    """:func:`measured_slots` as costs change: ``total``, the slots until now, while costs within 5 % would give as
    many. So neither a GPU whose clock comes and goes nor a batch of just about ``batch_ms`` makes slots flap.
    """
    fewest, most = (
        measured_slots([(rows, ms * factor) for rows, ms in costs], batch_ms, load) for factor in (1.05, 0.95)
    )
    return total if fewest <= total <= most else measured_slots(costs, batch_ms, load)


class SpeakingSlots:
    """``total`` slots of 25 frames a second. A turn at 50 takes two of them, one at 15 three fifths of one."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self._taken = Fraction(0)

    @property
    def used(self) -> int:
        """Slots of which anything is taken."""
        return math.ceil(self._taken)

    @property
    def free(self) -> int:
        """Turns at 25 frames a second that could begin now."""
        return max(0, self.total - self.used)

    @property
    def load(self) -> Fraction:
        """Share of the slots that is taken; more than 1 where there are none."""
        return self._taken / self.total if self.total else Fraction(2)

    def take(self, fps: Fraction) -> bool:
        """Take what a turn at ``fps`` needs, if it is there. A server on which nobody speaks takes any turn."""
        need = fps / SLOT_FPS
        if not self.total or (self._taken and self._taken + need > self.total):
            return False
        self._taken += need
        return True

    def give(self, fps: Fraction) -> None:
        """Give back what a turn at ``fps`` took."""
        self._taken = max(Fraction(0), self._taken - fps / SLOT_FPS)
