"""Speech and echoes for tests of listening, all made here."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from orchestrator.listening.linear import BLOCK
from tests.support.speech import speech as spoken

Sound = NDArray[np.float32]
AGENT = (
    "We are open from nine to six, Monday to Friday. "
    "Of course I can book that table for you right away. "
    "Which name shall I write down for the reservation this evening? "
    "It will arrive within three working days, and you can use the old one no more."
)


def speech(text: str) -> Sound:
    """``(n,)`` at 16 kHz, full scale 1.0."""
    return spoken(text).astype(np.float32) / np.float32(32768)


def silence(seconds: float) -> Sound:
    return np.zeros(int(seconds * 16_000), np.float32)


def whole_blocks(sound: Sound) -> Sound:
    return np.pad(sound, (0, -len(sound) % BLOCK))


def echo(sound: Sound, delay_ms: int, decibels: float, seed: int = 0) -> Sound:
    """What a speakerphone in a room sends back of ``sound``."""
    path = np.zeros(delay_ms * 16 + 1280)
    path[delay_ms * 16] = 1.0
    decay = np.exp(-np.arange(1280) / 200) * 0.3
    path[delay_ms * 16 :] += np.random.default_rng(seed).standard_normal(1280) * decay
    out = np.convolve(sound, path)[: len(sound)] * 10 ** (decibels / 20)
    return out.astype(np.float32)
