"""The melody of a voice while it arrives: where its pitch is high and where it is low. No I/O, no clock.

Pitch by normalised autocorrelation (Boersma 1993) of 40 ms windows at 8 kHz, 50 times a second.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HOP = 320
"""Samples (16 kHz) from one value to the next."""
_STEP, _WINDOW, _SIZE = 160, 320, 1024  # at 8 kHz
_FIRST, _LAST = 19, 114  # lags: 420 to 70 Hz
_VOICED = 0.5
_QUIET = 0.03  # of the loudest window so far
_MOST = 2.0  # standard deviations
_SMOOTH = np.hanning(11)[1:-1] / np.hanning(11).sum()  # 200 ms

Signal = NDArray[np.float64]
_TAPER = np.hanning(_WINDOW)
_OWN = np.fft.irfft(np.abs(np.fft.rfft(_TAPER, _SIZE)) ** 2)[: _LAST + 1]
_OWN /= _OWN[0]


class Prosody:
    """The pitch of one turn. ``origin``: the number of its first sample (16 kHz mono)."""

    def __init__(self, origin: int) -> None:
        self._first = origin // HOP  # the first value kept
        self._rest = np.zeros(origin % HOP // 2 + _WINDOW // 2, np.float32)
        self._semitones = np.empty(0)
        self._loudest = 1.0

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More sound; an odd sample at the end is left out."""
        half = (pcm[: len(pcm) // 2 * 2].reshape(-1, 2).astype(np.float32)).mean(1)
        sound = np.concatenate((self._rest, half))
        count = max(0, (len(sound) - _WINDOW) // _STEP + 1)
        self._rest = sound[count * _STEP :]
        if not count:
            return
        windows = np.lib.stride_tricks.sliding_window_view(sound, _WINDOW)[: count * _STEP : _STEP]
        windows = (windows - windows.mean(1, keepdims=True)) * _TAPER
        power = np.abs(np.fft.rfft(windows, _SIZE, axis=1)) ** 2
        likeness = np.fft.irfft(power, axis=1)[:, : _LAST + 1]
        loud = np.maximum(likeness[:, :1], 1e-9)
        likeness = likeness / loud / _OWN
        lags = np.arange(_FIRST, _LAST + 1)
        likeness = likeness[:, _FIRST:] - 0.03 * np.log2(lags / _FIRST)
        best = likeness.argmax(1)
        amplitude = np.sqrt(loud[:, 0])
        self._loudest = max(self._loudest, float(amplitude.max()))
        voiced = (likeness.max(1) > _VOICED) & (amplitude > _QUIET * self._loudest)
        found = np.where(voiced, 12 * np.log2(8000 / lags[best] / 100), np.nan)
        self._semitones = np.concatenate((self._semitones, found))

    @property
    def known(self) -> int:
        """The sample up to which pitch is known."""
        return (self._first + len(self._semitones)) * HOP

    def heights(self, samples: NDArray[np.int64]) -> Signal:
        """How high the pitch is at these samples, in standard deviations of the turn so far, at most two; NaN where
        there is none or where it is not known."""
        track = self._semitones
        voiced = ~np.isnan(track)
        out = np.full(len(samples), np.nan)
        if voiced.sum() < 10:
            return out
        middle = float(np.median(track[voiced]))
        voiced &= np.abs(track - middle) < 8  # octave errors
        mean, spread = float(track[voiced].mean()), max(float(track[voiced].std()), 0.5)
        heights = np.where(voiced, (track - mean) / spread, 0.0)
        weight = np.convolve(voiced, _SMOOTH, "same")
        smooth = np.convolve(heights, _SMOOTH, "same") / np.maximum(weight, 1e-9)
        at = samples // HOP - self._first
        inside = (at >= 0) & (at < len(track))
        seen = at[inside]
        out[inside] = np.where(weight[seen] > 0.2, np.clip(smooth[seen], -_MOST, _MOST), np.nan)
        return out
