"""What a silent face does: it listens to the caller, nods at pauses, thinks before an answer. Sans-IO."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from orchestrator.worker.messages import FaceState
from visavis.playout.idle import IdleState

PAUSE_S = 0.24
"""Quiet of a caller that is a pause."""
NOD_AFTER_S = 1.0
NOD_WITHIN_S = 1.0
"""Who spoke for so long is nodded to so soon after a pause, or not any more."""
THINK_AFTER_S = 0.6
THINK_UNTIL_S = 4.0
"""Quiet after which somebody seems to think who has not been told to, and for how long."""
LISTEN_S = 2.0
"""Quiet for which somebody goes on listening who would be told to think."""
_ECHO_S = 0.4  # after what the caller was sent, what comes may be its echo
_ONSET = 4  # pieces of 20 ms
_ABOVE = 16.0  # times the power of what is there all the time: 12 dB
_LEAST = 100.0**2  # -50 dBFS
_RISE = 1.01  # of the noise's power, a piece
_NEVER = -math.inf


class Attention:
    """Of one call's face. Implements :class:`orchestrator.media.sources.Hearing`; ``state`` is what
    :class:`visavis.playout.idle.IdlePath` asks. ``clock``: monotonic seconds.

    Whoever knows better than the caller's voice tells it by ``tell``.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.listens = False
        """Whether the caller's voice is wanted: while there is a face to be seen."""
        self._clock = clock
        self._told: FaceState = ""
        self._noise = math.inf
        self._voiced = 0
        self._speaks = False
        self._began = self._last = self._sent = self._nod_by = _NEVER

    def tell(self, state: FaceState) -> None:
        """The state of the conversation from now on; "": nobody knows."""
        self._told = state

    def state(self) -> IdleState:
        """What the face waits for now; a pause is told once."""
        now = self._clock()
        self._pause(now)
        if self._told in ("idle", "thinking"):
            return self._told
        quiet = now - self._last
        if now < self._nod_by:
            self._nod_by = _NEVER
            return "paused"
        if self._speaks or quiet < (LISTEN_S if self._told else THINK_AFTER_S):
            return "listening"
        return "thinking" if not self._told and quiet < THINK_UNTIL_S else "idle"

    def heard(self, pcm: NDArray[np.int16], sent: NDArray[np.int16], rate: int) -> None:
        """See :class:`orchestrator.media.sources.Hearing`."""
        now = self._clock()
        if sent.any():
            self._sent = now
        sound = pcm.astype(np.float32)
        power = float(sound @ sound) / max(1, len(sound))
        self._noise = max(_LEAST / _ABOVE, min(power, self._noise * _RISE))  # from no power nothing rises
        voiced = power > _ABOVE * self._noise and now - self._sent > _ECHO_S
        self._voiced = min(_ONSET, self._voiced + 1) if voiced else max(0, self._voiced - 1)
        if voiced and (self._speaks or self._voiced == _ONSET):
            if not self._speaks:
                self._speaks, self._began = True, now
            self._last = now
        self._pause(now)

    def digit(self, digit: str, milliseconds: int) -> None:
        """Keys are no voice."""

    def _pause(self, now: float) -> None:
        """Who has been quiet for long enough pauses, also one whose phone sends nothing then."""
        if self._speaks and now - self._last > PAUSE_S:
            self._speaks = False
            if self._last - self._began > NOD_AFTER_S:
                self._nod_by = self._last + PAUSE_S + NOD_WITHIN_S
