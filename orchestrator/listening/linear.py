"""A linear echo canceller: it leaves the near end's voice as it is, also while both ends speak.

AEC3 is right about whether somebody talks and wrong for recognising what they say under double talk, since it
suppresses what is left of the echo. This one only subtracts: a partitioned-block frequency-domain adaptive filter
(Soo and Pang, "Multidelay block frequency domain adaptive filter", IEEE Trans. ASSP 38(2), 1990) in two paths
(Ochiai et al., "Echo canceler with two echo path models", IEEE Trans. Com. 25(6), 1977): the background filter
always adapts; the foreground one, which is what is heard, takes its weights over where they are better for long.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 320
"""Samples of a block at 16 kHz: 20 ms."""
PARTITIONS = 20
"""Blocks of echo path: 400 ms."""
_STEP = 1.0
_BETTER = 0.85
_WORSE = 2.0
_PATIENCE = 3
_CHANGED = 15
"""Blocks through which the filter adds to what there was: another echo path does that so long, no pause does."""
_EVERY = 4
_QUIET = 1e-7


class LinearCanceller:
    """``process`` takes blocks of ``(BLOCK,)`` float32 at 16 kHz, near end and reference."""

    def __init__(self) -> None:
        bins = BLOCK + 1
        self._far = np.zeros((PARTITIONS, bins), np.complex64)
        self._front = np.zeros((PARTITIONS, bins), np.complex64)
        self._back = np.zeros((PARTITIONS, bins), np.complex64)
        self._power = np.full(bins, 1e-3, np.float32)
        self._last = np.zeros(BLOCK, np.float32)
        self._turn = 0
        self._better = 0
        self._adds = 0
        self._silent = PARTITIONS
        self._errors = np.zeros(3)  # of front, back, and without any filter

    def process(self, near: NDArray[np.float32], reference: NDArray[np.float32]) -> NDArray[np.float32]:
        """The near end without the echo of the reference, ``(BLOCK,)``."""
        self._silent = 0 if float(np.dot(reference, reference)) > _QUIET * BLOCK else self._silent + 1
        if self._silent > PARTITIONS:  # there is no echo left
            self._last = reference
            return near
        spectrum = np.fft.rfft(np.concatenate((self._last, reference)))
        self._last = reference
        self._far = np.roll(self._far, 1, axis=0)
        self._far[0] = spectrum
        front, back = self._error(self._front, near), self._error(self._back, near)
        self._adapt(back)
        self._choose(float(front @ front), float(back @ back), float(near @ near))
        return front

    def _error(self, weights: NDArray[np.complex64], near: NDArray[np.float32]) -> NDArray[np.float32]:
        echo = np.fft.irfft(np.einsum("pb,pb->b", self._far, weights))[BLOCK:]
        return near - echo.astype(np.float32)

    def _adapt(self, error: NDArray[np.float32]) -> None:
        power = np.square(np.abs(self._far)).sum(axis=0)
        self._power = 0.9 * self._power + 0.1 * power.astype(np.float32)
        padded = np.concatenate((np.zeros(BLOCK, np.float32), error))
        step = _STEP * np.fft.rfft(padded) / (np.maximum(self._power, power) + 1e-2)
        self._back += (self._far.conj() * step).astype(np.complex64)
        # Only half of a partition's weights are an echo path; the rest is wrapped around: some in each block.
        chosen = slice(self._turn, PARTITIONS, _EVERY)
        paths = np.fft.irfft(self._back[chosen], axis=1)
        paths[:, BLOCK:] = 0
        self._back[chosen] = np.fft.rfft(paths, axis=1)
        self._turn = (self._turn + 1) % _EVERY

    def _choose(self, front: float, back: float, near: float) -> None:
        self._errors = 0.7 * self._errors + 0.3 * np.array((front, back, near))
        now_front, now_back, unfiltered = self._errors
        self._better = self._better + 1 if now_back < _BETTER * now_front else 0
        if self._better >= _PATIENCE:
            self._front[:] = self._back
            self._errors[0] = now_back
            self._better = 0
        elif now_back > _WORSE * now_front:
            self._back[:] = self._front
            self._errors[1] = now_front
        self._adds = self._adds + 1 if now_front > _WORSE * unfiltered else 0
        if self._adds >= _CHANGED:
            self._front[:] = self._back[:] = 0
            self._errors[:2] = unfiltered
            self._adds = 0
