"""16 kHz PCM → normalised log-mel features at 100 Hz, the same bits however the audio arrives.

Hop h stands for the samples ``[160 h, 160 h + 160)`` of the turn; its window is 25 ms around their middle.
Work is done in blocks of two hops (20 ms) of constant shape, since a product of one row differs in the last
bits from the same row in a batch. Values are 0 (50 dB or more under the loudest band of the last 2.56 s, or
silence) to 1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
HOP = 160
WINDOW = 400
BANDS = 26
BLOCK_HOPS = 2
BEFORE = (WINDOW - HOP) // 2
"""Samples of a window before its hop."""
AFTER = WINDOW - HOP - BEFORE
"""Samples of a window after its hop."""
PEAK_BLOCKS = 128
"""The running peak looks back over so many blocks (2.56 s)."""

_FFT = 512
_RANGE = 11.5  # natural logarithm of power: 50 dB
_FLOOR = 1.0  # the loudest band of speech at -42 dBFS; where nothing is louder, nobody speaks
_EPSILON = np.float32(1e-10)

Features = NDArray[np.float32]
_SPAN = BLOCK_HOPS * HOP + WINDOW - HOP


def _mel_filters() -> NDArray[np.float32]:
    def mel(f: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(2595.0 * np.log10(1.0 + f / 700.0))

    low, high = mel(np.array([60.0, 7600.0]))
    edges = np.linspace(float(low), float(high), BANDS + 2)
    bins = mel(np.arange(_FFT // 2 + 1) * RATE / _FFT)
    rise = (bins[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins[:, None]) / (edges[2:] - edges[1:-1])
    return np.asarray(np.maximum(0.0, np.minimum(rise, fall)), np.float32)


_WINDOW = (np.hanning(WINDOW + 1)[:-1] / 32768.0).astype(np.float32)
_MEL = _mel_filters()
_FRAMES = np.arange(BLOCK_HOPS)[:, None] * HOP + np.arange(WINDOW)


def log_mel(frames: NDArray[np.int16]) -> Features:
    """Natural log of band power; ``frames``: ``(n, 400)`` samples, result ``(n, 26)``."""
    spectrum = np.fft.rfft(frames * _WINDOW, _FFT)
    power = spectrum.real**2 + spectrum.imag**2
    bands = (power[:, None] @ _MEL)[:, 0]
    bands += _EPSILON
    return np.asarray(np.log(bands, out=bands))


def normalise(bands: Features, peak: Features) -> Features:
    """0..1 of log-mel ``(n, 26)`` against the running peak of each hop ``(n,)``."""
    scaled = (bands - peak[:, None]) * np.float32(1.0 / _RANGE) + np.float32(1.0)
    return np.asarray(np.maximum(scaled, np.float32(0.0)), np.float32)


class FeatureStream:
    """Incremental features of one piece of a turn's audio.

    ``first_hop`` is the first hop of the first block; what lies before the audio's ``origin`` (sample of the
    turn) is silence. :meth:`append` may get pieces of any length.
    """

    def __init__(self, origin: int = 0, first_hop: int = 0) -> None:
        self._start = first_hop * HOP - BEFORE  # turn sample of the next block's first sample
        lead = origin - self._start
        if lead < 0:
            raise ValueError(f"first hop {first_hop} begins after the audio's origin {origin}")
        self._pending = bytearray(2 * lead)
        self._levels = np.full(PEAK_BLOCKS, _FLOOR, np.float32)
        self._block = 0
        self.heard = np.zeros(BLOCK_HOPS, bool)
        """Per hop of the latest block: whether the running peak is over the floor, so that somebody may speak."""

    def append(self, pcm: NDArray[np.int16]) -> None:
        """Add audio: int16, 16 kHz, mono."""
        self._pending += np.ascontiguousarray(pcm, np.int16).tobytes()

    def pad(self, samples: int) -> None:
        """Add silence."""
        self._pending += bytes(2 * samples)

    def next_block(self) -> Features | None:
        """Features ``(2, 26)`` of the next 20 ms, or ``None`` while its audio is not complete."""
        if len(self._pending) < 2 * _SPAN:
            return None
        pcm = np.frombuffer(self._pending[: 2 * _SPAN], np.int16)
        del self._pending[: 2 * BLOCK_HOPS * HOP]
        bands = log_mel(pcm[_FRAMES])
        slot = self._block % PEAK_BLOCKS
        self._levels[slot] = _FLOOR
        peak = np.maximum.accumulate(bands.max(1))
        np.maximum(peak, self._levels.max(), out=peak)
        self._levels[slot] = max(_FLOOR, float(bands.max()))
        self._block += 1
        self.heard = peak > _FLOOR
        return normalise(bands, peak)


def features(pcm: NDArray[np.int16], first_hop: int = 0, hops: int | None = None) -> Features:
    """All features of a whole clip, ``(hops, 26)``: as the stream's, but in one go and so equal to it only to
    the last bits. For training and evaluation."""
    count = len(pcm) // HOP if hops is None else hops
    count += -count % BLOCK_HOPS
    lead = BEFORE - first_hop * HOP
    padded = np.concatenate((np.zeros(lead, np.int16), pcm, np.zeros(WINDOW + HOP * BLOCK_HOPS, np.int16)))
    short = (count - 1) * HOP + WINDOW - len(padded)
    if short > 0:
        padded = np.concatenate((padded, np.zeros(short, np.int16)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][:count]
    bands = log_mel(frames)
    level = np.maximum(bands.max(1), np.float32(_FLOOR)).reshape(-1, BLOCK_HOPS)
    blocks = np.concatenate((np.full(PEAK_BLOCKS - 1, _FLOOR, np.float32), level.max(1)))
    past = np.lib.stride_tricks.sliding_window_view(blocks, PEAK_BLOCKS - 1)[: len(level)].max(1)
    peak = np.maximum(np.maximum.accumulate(level, 1), past[:, None]).reshape(-1)
    return normalise(bands, peak)
