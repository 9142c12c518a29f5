"""Speech for callers of tests."""

from __future__ import annotations

import functools
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.speech.finish import finished
from visavis.audio import Resampler

_RATE = 24_000


@functools.cache
def _voice() -> Any:
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    from hibari import Hibari

    return Hibari()


@functools.cache
def speech(text: str, rate: int = 16_000) -> NDArray[np.int16]:
    """``(n,)`` at ``rate`` Hz, levelled."""
    sentences = (np.asarray(sound) * 32767 for sound in _voice().stream(text, seed=0))
    spoken = np.concatenate([finished(sound.astype(np.int16), _RATE) for sound in sentences])
    resampler = Resampler(_RATE, rate)
    return np.concatenate((resampler.push(spoken), resampler.flush()))
