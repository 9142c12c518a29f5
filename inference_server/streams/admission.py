"""Speaking slots: how many streams may speak at once."""

from __future__ import annotations

from collections.abc import Sequence


def measured_slots(
    costs: Sequence[tuple[int, float]], batch_ms: float, load: float, fps: float = 25.0
) -> int:
    """Slots from the engine's cost per bucket: the best throughput of a batch of at most ``batch_ms``.

    At least one: a slow engine draws fewer frames, and that is shown by late frames, not by a mute avatar.
    """
    fitting = [c for c in costs if c[1] <= batch_ms] or list(costs[:1])
    best = max((rows / max(ms, 0.01) * 1000 for rows, ms in fitting), default=0.0)
    return max(1, int(best * load / fps))


class SpeakingSlots:
    """``total`` slots, of which ``used`` are taken."""

    def __init__(self, total: int = 0) -> None:
        self.total = total
        self.used = 0

    @property
    def free(self) -> int:
        """Slots that a turn could take now."""
        return max(0, self.total - self.used)

    def take(self) -> bool:
        """Take one, if there is one."""
        if self.used >= self.total:
            return False
        self.used += 1
        return True

    def give(self) -> None:
        """Give one back."""
        self.used = max(0, self.used - 1)
