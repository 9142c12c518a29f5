"""Whether somebody speaks: Silero VAD version 6 (``silero_vad_v6.onnx``; 32 ms of sound at a time)."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.listening.runtime import load

FRAME = 512
"""Samples at 16 kHz of one judgement: 32 ms."""
_CONTEXT = 64
_MODEL = Path(__file__).with_name("silero_vad_v6.onnx")


@functools.cache
def _session() -> Any:
    return load(_MODEL)


class SpeechProbability:
    """One voice's; what was heard before counts, so each call has its own."""

    def __init__(self) -> None:
        self._session = _session()
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._h = np.zeros((1, 1, 128), np.float32)
        self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(_CONTEXT, np.float32)

    def __call__(self, frame: NDArray[np.float32]) -> float:
        """From 0 to 1, of ``(FRAME,)`` samples at 16 kHz, full scale 1.0."""
        sound = np.concatenate((self._context, frame))[None]
        self._context = frame[-_CONTEXT:]
        inputs = {"input": sound, "h": self._h, "c": self._c}
        probability, self._h, self._c = self._session.run(None, inputs)
        return float(probability[0])
