"""Whisper's log-mel spectrogram, hop by hop, the same whatever the chunks that the audio comes in.

Radford et al. 2022, section 2.2: 16 kHz, windows of 25 ms, hops of 10 ms, 80 mel bands; logarithm, clamped to
8 decades below the maximum, scaled. Whisper takes the maximum of the whole clip; here it is that of what has been
heard up to the last hop of a window, and of what the caller expects from earlier turns.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 16_000
HOP = 160
WINDOW = 400
BANDS = 80
BLOCK = 4  # hops computed at a time: a constant shape, so that a hop's bits do not depend on its neighbours
SEED = -1.0  # least maximum, in decades
_RANGE = 8.0
_FLOOR = 1e-10


def mel_filters(bands: int = BANDS, bins: int = WINDOW // 2 + 1) -> NDArray[np.float32]:
    """``(bins, bands)`` triangles of equal area, 0 to 8 kHz on Slaney's mel scale (Auditory Toolbox)."""
    linear, log_from, log_step = 200 / 3, 1000.0, np.log(6.4) / 27

    def to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
        knee = log_from / linear
        return np.where(mel < knee, mel * linear, log_from * np.exp(log_step * (mel - knee)))

    top = log_from / linear + np.log(RATE / 2 / log_from) / log_step
    edges = to_hz(np.linspace(0.0, top, bands + 2))
    frequency = np.linspace(0.0, RATE / 2, bins)[:, None]
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))).astype(np.float32)


_FILTERS = mel_filters()
_HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)


def decades(windows: NDArray[np.float64]) -> NDArray[np.float32]:
    """``(n, 80)`` log10 mel power of ``(n, 400)`` samples in -1..1."""
    power = np.abs(np.fft.rfft(windows * _HANN)) ** 2
    return np.log10(np.maximum(power.astype(np.float32) @ _FILTERS, _FLOOR))


def scale(logs: NDArray[np.float32], maximum: float) -> NDArray[np.float32]:
    """Clamp to 8 decades below the maximum and bring to about -1..1."""
    return (np.maximum(logs, maximum - np.float32(_RANGE)) + np.float32(4)) / np.float32(4)


class LogMel:
    """Log-mel and loudness of a growing piece of audio that begins at sample ``origin`` of its turn.

    Hop h covers samples 160h ± 200. ``logs``: ``(n, 80)`` float32 decades of hops ``first`` to ``first + n``;
    ``loud``: the same hops' mean power over their own 10 ms. ``expected``: least maximum, in decades.
    """

    def __init__(self, origin: int = 0, expected: float = SEED) -> None:
        self.origin = origin
        self.expected = max(expected, SEED)
        self.first = origin // HOP
        self._block = (self.first + 3) // BLOCK  # of hops 4b - 3 to 4b
        self._start = BLOCK * HOP * self._block - 3 * HOP - WINDOW // 2  # first sample in _tail
        self._tail = np.zeros(0)
        self._fresh = True
        self._head = np.zeros(0, np.int16)
        self.level = float(np.log10(_FLOOR))  # the maximum of what has been heard, in decades
        self._logs = np.zeros((512, BANDS), np.float32)
        self._loud = np.zeros(512)
        self._top = np.zeros(512, np.float32)  # the level as it was at each hop
        self._hops = 0
        self._pcm = bytearray()  # as it came, from sample _pcm_start on
        self._pcm_start = origin
        self.samples = origin  # end of the audio, in the turn's samples

    @property
    def end(self) -> int:
        """The first hop that is not computed yet."""
        return self.first + self._hops

    def window(self, start: int, stop: int, tail: int) -> NDArray[np.float32]:
        """``(stop - start + tail, 80)`` log-mel with one maximum; hops before the first kept one are zeros. The
        last ``tail`` are as if the audio ended 10 ms after hop ``stop``'s first sample."""
        low = max(start, self.first)
        logs = np.concatenate(
            (self._logs[low - self.first : max(stop, low) - self.first], self._fading(stop, tail))
        )
        top = self._top[stop - 1 - self.first] if stop > self.first else self.expected
        out = np.zeros((stop - start + tail, BANDS), np.float32)
        out[low - start :] = scale(logs, max(self.expected, float(top), float(logs.max())))
        return out

    def _fading(self, hop: int, count: int) -> NDArray[np.float32]:
        start = HOP * hop - WINDOW // 2
        block = np.zeros((BLOCK - 1) * HOP + WINDOW)
        low, high = max(start, self._pcm_start), min(HOP * (hop + 1), self.samples)
        if high > low:
            kept = bytes(self._pcm[2 * (low - self._pcm_start) : 2 * (high - self._pcm_start)])
            block[low - start : high - start] = np.frombuffer(kept, "<i2") / 32768.0
        out = np.full((count, BANDS), np.log10(_FLOOR), np.float32)
        out[:BLOCK] = decades(np.stack([block[i * HOP : i * HOP + WINDOW] for i in range(BLOCK)]))[:count]
        return out

    def loud(self, start: int, stop: int) -> NDArray[np.float64]:
        """Mean power of the hops that are known among ``start`` to ``stop``."""
        low, high = max(start - self.first, 0), min(stop - self.first, self._hops)
        return self._loud[low : max(high, low)]

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More audio, of any length."""
        self.samples += len(pcm)
        self._pcm += pcm.astype("<i2", copy=False).tobytes()
        if self._fresh:
            self._head = np.concatenate((self._head, pcm))
            if len(self._head) <= WINDOW // 2:
                return
            self._begin()
        else:
            self._tail = np.concatenate((self._tail, pcm / 32768.0))
        self._compute()

    def pad_to(self, hop: int) -> None:
        """After the end of the audio: silence until ``hop`` is known."""
        need = BLOCK * HOP * ((hop + 3) // BLOCK) + WINDOW // 2
        if self._fresh:
            self._head = np.concatenate((self._head, np.zeros(WINDOW, np.int16)))
            self._begin()
        missing = need - (self._start + len(self._tail))
        if missing > 0:
            self._tail = np.concatenate((self._tail, np.zeros(missing)))
        self._compute()

    def forget(self, hop: int) -> None:
        """Hops before ``hop`` are not asked for any more."""
        drop = min(hop - self.first, self._hops)
        if drop < 1024:
            return
        unheard = max(HOP * (self.first + drop - 3) - self._pcm_start, 0)
        del self._pcm[: 2 * unheard]
        self._pcm_start += unheard
        keep = self._hops - drop
        self._logs[:keep] = self._logs[drop : self._hops].copy()
        self._loud[:keep] = self._loud[drop : self._hops].copy()
        self._top[:keep] = self._top[drop : self._hops].copy()
        self.first += drop
        self._hops = keep

    def _begin(self) -> None:
        """Lay out the samples before the audio: mirrored at the start of a turn (as Whisper does), else silent."""
        self._fresh = False
        x = self._head / 32768.0
        before = np.zeros(self.origin - self._start)
        if self.origin == 0:
            before[-WINDOW // 2 :] = x[WINDOW // 2 : 0 : -1]
        self._tail = np.concatenate((before, x))
        self._head = np.zeros(0, np.int16)

    def _compute(self) -> None:
        span = (BLOCK - 1) * HOP + WINDOW
        while len(self._tail) >= span:
            block = self._tail[:span]
            windows = np.stack([block[i * HOP : i * HOP + WINDOW] for i in range(BLOCK)])
            logs = decades(windows)
            own = windows[:, WINDOW // 2 : WINDOW // 2 + HOP]
            loud = np.einsum("ij,ij->i", own, own) / HOP
            for i in range(BLOCK):
                hop = BLOCK * self._block - 3 + i
                if hop < self.first:
                    continue
                self.level = max(self.level, float(logs[i].max()))
                self._store(logs[i], float(loud[i]))
            self._tail = self._tail[BLOCK * HOP :]
            self._start += BLOCK * HOP
            self._block += 1

    def _store(self, logs: NDArray[np.float32], loud: float) -> None:
        if self._hops == len(self._logs):
            self._logs = np.concatenate((self._logs, np.zeros_like(self._logs)))
            self._loud = np.concatenate((self._loud, np.zeros_like(self._loud)))
            self._top = np.concatenate((self._top, np.zeros_like(self._top)))
        self._logs[self._hops] = logs
        self._loud[self._hops] = loud
        self._top[self._hops] = self.level
        self._hops += 1
