"""Speech and echoes for tests of listening, all made here."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from orchestrator.listening.linear import BLOCK
from orchestrator.speech.finish import finished
from visavis.audio import Resampler

Sound = NDArray[np.float32]
AGENT = (
    "We are open from nine to six, Monday to Friday. "
    "Of course I can book that table for you right away. "
    "Which name shall I write down for the reservation this evening? "
    "It will arrive within three working days, and you can use the old one no more."
)
_RATE = 24_000


@functools.cache
def _voice() -> Any:
    from hibari import Hibari

    return Hibari()


@functools.cache
def speech(text: str) -> Sound:
    """``(n,)`` at 16 kHz, full scale 1.0."""
    sentences = (np.asarray(sound) * 32767 for sound in _voice().stream(text))
    spoken = np.concatenate([finished(sound.astype(np.int16), _RATE) for sound in sentences])
    resampler = Resampler(_RATE)
    pcm = np.concatenate((resampler.push(spoken), resampler.flush()))
    return pcm.astype(np.float32) / 32768


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
