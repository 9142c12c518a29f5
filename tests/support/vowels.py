"""A voice without words, for whoever listens to voices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_FORMANTS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
"""Of vowels, in Hz (Peterson and Barney 1952)."""
_WIDTHS = (60, 90, 120)
_SYLLABLE_S, _CONSONANT_S = 0.2, 0.03


def vowels(seconds: float, rate: int) -> NDArray[np.int16]:
    """Syllables of a hiss and a vowel, at a pitch that glides about 130 Hz: ``(n,)``, whole syllables."""
    rng = np.random.default_rng(1)
    size = round(_SYLLABLE_S * rate)
    time, hertz = np.arange(size) / rate, np.fft.rfftfreq(size, 1 / rate)
    said, phase = [], 0.0
    for number in range(round(seconds / _SYLLABLE_S)):
        glide = 1 + 0.15 * np.sin(2 * np.pi * (number * _SYLLABLE_S + time) * 0.6)
        unsteady = 1 + 0.01 * rng.standard_normal(size).cumsum() / np.sqrt(size)
        phases = phase + np.cumsum(130 * glide * unsteady) / rate
        phase = phases[-1]
        pulses = np.diff(np.floor(phases), prepend=np.floor(phases[0])) + rng.normal(0, 0.003, size)
        tract = np.ones_like(hertz, complex) / np.sqrt(1 + (hertz / 500) ** 2)
        for peak, width in zip(_FORMANTS[number % len(_FORMANTS)], _WIDTHS, strict=True):
            tract *= peak**2 / (peak**2 - hertz**2 + 1j * hertz * width)
        sound = np.fft.irfft(np.fft.rfft(pulses) * tract, size)
        sound *= (0.5 + 0.5 * np.sin(np.pi * time / _SYLLABLE_S)) / np.abs(sound).max()
        consonant = round(_CONSONANT_S * rate)
        sound[:consonant] = rng.normal(0, 0.1, consonant)
        said.append(sound)
    voice = np.concatenate(said)
    return (voice / np.abs(voice).max() * 20_000).astype(np.int16)
