"""What a silent face waits for: it listens to its user, nods at pauses, thinks before an answer. Sans-IO."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

from visavis.playout.idle import IdleState

FaceState = Literal["idle", "listening", "thinking", "speaking"]
"""What a conversation does now, as somebody knows it."""

NOD_AFTER_S = 1.0
NOD_WITHIN_S = 1.0
"""Who spoke for so long is nodded to so soon after a pause, or not any more."""
THINK_AFTER_S = 0.6
THINK_UNTIL_S = 4.0
"""Quiet after which somebody seems to think who has not been told to, and for how long."""
LISTEN_S = 2.0
"""Quiet for which somebody goes on listening who would be told to think."""


class Attention:
    """Of one face; ``state`` is what :class:`visavis.playout.idle.IdlePath` asks. ``clock``: monotonic seconds.

    The user's voice tells (:meth:`voice`); who knows better says so (:meth:`tell`). May be used from any thread.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: FaceState | Literal[""] = ""
        self._hears = False  # the user's voice is told
        self._speaks = False  # the user
        self._began = self._last = self._nod_by = -math.inf

    def tell(self, state: FaceState | Literal[""]) -> None:
        """The state of the conversation from now on; "": nobody knows."""
        self._told = state

    def voice(self, speaks: bool) -> None:
        """The user begins to speak, or pauses."""
        now, self._hears = self._clock(), True
        if speaks:
            self._heard(now)
        elif self._speaks:
            self._last = now
            self._pause(now)

    def answer(self) -> None:
        """The face speaks: it thinks no more."""
        if self._told == "thinking":
            self._told = "speaking"

    def state(self) -> IdleState:
        """What the face waits for now; a pause is told once."""
        now = self._clock()
        if self._told in ("idle", "thinking"):
            return self._told
        if self._told == "listening" and not self._hears:
            return "listening"
        quiet = now - self._last
        if now < self._nod_by:
            self._nod_by = -math.inf
            return "paused"
        if self._speaks or quiet < (LISTEN_S if self._told else THINK_AFTER_S):
            return "listening"
        return "thinking" if not self._told and quiet < THINK_UNTIL_S else "idle"

    def _heard(self, now: float) -> None:
        """The user speaks at this moment."""
        if not self._speaks:
            self._speaks, self._began = True, now
        self._last = now

    def _pause(self, since: float) -> None:
        """The user has not spoken any more, and pauses since then."""
        self._speaks = False
        if self._last - self._began > NOD_AFTER_S:
            self._nod_by = since + NOD_WITHIN_S
