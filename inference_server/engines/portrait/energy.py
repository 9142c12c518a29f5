"""A mouth that opens with the voice's energy: what speaks where no viseme network is there."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from visavis.frames import frame_start

HOP = 160
_LOOK_AHEAD = 4  # hops


class EnergyTrack:
    """The same shape as ``visemes.VisemeTrack``: PCM in, (open, width, close, fv) of a frame out."""

    def __init__(self) -> None:
        self._rest: NDArray[np.int16] = np.zeros(0, np.int16)
        self._levels: list[float] = []
        self._peak = 500.0
        self._ended = False

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More 16 kHz mono audio."""
        self._rest = np.concatenate([self._rest, pcm])
        whole = len(self._rest) // HOP * HOP
        for block in self._rest[:whole].reshape(-1, HOP):
            self._add(block)
        self._rest = self._rest[whole:]

    def end(self) -> None:
        """No more audio comes."""
        if len(self._rest):
            self._add(np.concatenate([self._rest, np.zeros(HOP - len(self._rest), np.int16)]))
            self._rest = self._rest[:0]
        self._ended = True

    def _add(self, block: NDArray[np.int16]) -> None:
        rms = float(np.sqrt(np.mean(block.astype(np.float64) ** 2)))
        self._peak = max(rms, 300.0, self._peak * 0.999)
        self._levels.append(rms / self._peak)

    @property
    def ready_samples(self) -> int:
        """Samples of the turn whose frames can be drawn."""
        return len(self._levels) * HOP if self._ended else max(0, len(self._levels) - _LOOK_AHEAD) * HOP

    def params(self, frame: int, fps: Fraction) -> tuple[float, float, float, float]:
        """(open, width, close, fv) over frame ``frame``."""
        first = frame_start(frame, fps) // HOP
        last = max(first + 1, -(-frame_start(frame + 1, fps) // HOP))
        near = self._levels[max(0, first - 1) : last + 1]
        level = float(np.mean(near)) if near else 0.0
        return float(np.clip((level - 0.06) * 1.3, 0, 1)), 0.0, 0.0, 0.0
