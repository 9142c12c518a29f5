"""What a silent face hears: when its caller speaks and pauses. Sans-IO."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from visavis.playout.attention import Attention
from visavis.playout.idle import IdleState

PAUSE_S = 0.24
"""Quiet of a caller that is a pause."""
_ECHO_S = 0.4  # after what the caller was sent, what comes may be its echo
_ONSET = 4  # pieces of 20 ms
_ABOVE = 16.0  # times the power of what is there all the time: 12 dB
_LEAST = 100.0**2  # -50 dBFS
_RISE = 1.01  # of the noise's power, a piece


class CallerAttention(Attention):
    """Of one call's face. Implements :class:`orchestrator.media.sources.Hearing`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__(clock)
        self.listens = False
        """Whether the caller's voice is wanted: while there is a face to be seen."""
        self._hears = True
        self._noise = math.inf
        self._voiced = 0
        self._sent = -math.inf

    def state(self) -> IdleState:
        """See :class:`visavis.playout.attention.Attention`; a phone may send nothing while its caller is quiet."""
        self._look_for_pause(self._clock())
        return super().state()

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
            self._heard(now)
        self._look_for_pause(now)

    def digit(self, digit: str, milliseconds: int) -> None:
        """Keys are no voice."""

    def _look_for_pause(self, now: float) -> None:
        if self._speaks and now - self._last > PAUSE_S:
            self._pause(self._last + PAUSE_S)
