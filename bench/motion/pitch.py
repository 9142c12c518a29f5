"""The pitch of a voice, by normalised autocorrelation (Boersma 1993) of 40 ms windows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
HOP = 160
_WINDOW = 640
_LOW, _HIGH = 70.0, 420.0
_VOICED = 0.5
_QUIET = 0.03  # of the loudest window

Signal = NDArray[np.float64]


def pitch(pcm: NDArray[np.int16]) -> Signal:
    """Semitones over 100 Hz at 100 Hz, NaN where the voice has no pitch. ``pcm``: 16 kHz mono."""
    hops = len(pcm) // HOP
    padded = np.concatenate((np.zeros(_WINDOW // 2), pcm.astype(np.float64), np.zeros(_WINDOW)))
    window = np.hanning(_WINDOW)
    size = 2048
    own = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)
    first, last = int(RATE / _HIGH), int(RATE / _LOW)
    out = np.full(hops, np.nan)
    loud = np.zeros(hops)
    for h in range(hops):
        part = padded[h * HOP : h * HOP + _WINDOW]
        part = (part - part.mean()) * window
        loud[h] = np.sqrt((part**2).mean())
        power = np.fft.irfft(np.abs(np.fft.rfft(part, size)) ** 2)
        if power[0] <= 0:
            continue
        likeness = power[: last + 1] / power[0] / (own[: last + 1] / own[0])
        # of octaves that fit about equally well the higher pitch is the true one
        likeness[first:] -= 0.03 * np.log2(np.arange(first, last + 1) / first)
        at = first + int(likeness[first : last + 1].argmax())
        if likeness[at] > _VOICED:
            out[h] = 12 * np.log2(RATE / at / 100)
    out[loud < _QUIET * loud.max()] = np.nan
    return _without_leaps(out)


def _without_leaps(track: Signal) -> Signal:
    """Without what is more than eight semitones from the median (octave errors) and what lasts under 30 ms."""
    voiced = ~np.isnan(track)
    if not voiced.any():
        return track
    out = track.copy()
    out[voiced & (np.abs(track - np.nanmedian(track)) > 8)] = np.nan
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (~np.isnan(out)).astype(int), [0])))).reshape(-1, 2)
    for a, b in edges:
        if b - a < 3:
            out[a:b] = np.nan
    return out


def contour(track: Signal, starts: Signal, slot: float) -> Signal:
    """The mean over each picture's ``slot`` seconds from ``starts`` (seconds) on; NaN where none is voiced."""
    out = np.full(len(starts), np.nan)
    for i, start in enumerate(starts):
        part = track[max(0, round(start * 100)) : max(0, round((start + slot) * 100))]
        voiced = part[~np.isnan(part)]
        if len(voiced):
            out[i] = voiced.mean()
    return out
