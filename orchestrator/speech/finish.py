"""The same for every voice: little silence around a sentence, and one level.

Voices differ by half a second of silence and by many decibels; whoever talks over a phone hears both.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator

import numpy as np
from numpy.typing import NDArray

from orchestrator.speech.base import PCM, Stretch, TextToSpeech, TimedSpeech, joined, stretches_of

LEVEL_DBFS = -23.0
"""Active level of what is spoken."""
PEAK_DBFS = -3.0
HEAD_MS = 20
TAIL_MS = 40
PAUSE_MS = 240
"""Between two sentences, besides what is left of their tail and head: 300 ms in all."""
STEP_MS = 5
_MARGIN_DB = 15.9
"""How far below the active level speech is still active (ITU-T P.56)."""
EDGE_DB = 35.0
"""How far below the active level a sentence begins and ends: breathy consonants belong to it."""
FADE_MS = 5
_MOST_GAIN_DB = 40.0


def powers(pcm: NDArray[np.int16], rate: int, step_ms: int = STEP_MS) -> NDArray[np.float64]:
    """Mean square of each step of the sound, 1.0 being full scale; the last one is filled up with silence."""
    step = rate * step_ms // 1000
    padded = np.zeros(-(-len(pcm) // step) * step)
    padded[: len(pcm)] = pcm / 32768.0
    mean: NDArray[np.float64] = np.square(padded).reshape(-1, step).mean(axis=1)
    return mean


def active_level(power: NDArray[np.float64]) -> float:
    """Mean square of those steps in which somebody speaks; 0.0 of silence."""
    level = float(power.max(initial=0.0))
    for _ in range(8):
        active = power[power > level * 10 ** (-_MARGIN_DB / 10)]
        if not len(active):
            return 0.0
        level = float(active.mean())
    return level


def finished(pcm: PCM, rate: int) -> PCM:
    """One sentence, ``(n,)`` int16 at ``rate`` Hz, trimmed and levelled; what has no speech in it stays out."""
    return trimmed(pcm, rate)[0]


def trimmed(pcm: PCM, rate: int) -> tuple[PCM, float]:
    """See :func:`finished`; and how many milliseconds of its beginning were left out."""
    power = powers(pcm, rate)
    level = active_level(power)
    if level < 1e-7:
        return np.zeros(0, np.int16), 0.0
    (loud,) = np.nonzero(power > level * 10 ** (-EDGE_DB / 10))
    step = rate * STEP_MS // 1000
    first = max(0, int(loud[0]) * step - rate * HEAD_MS // 1000)
    last = (int(loud[-1]) + 1) * step + rate * TAIL_MS // 1000
    gain = min(10 ** (LEVEL_DBFS / 20) / np.sqrt(level), 10 ** (_MOST_GAIN_DB / 20))
    sound = pcm[first:last].astype(np.float64) * gain
    limit(sound, rate)
    fade = min(rate * FADE_MS // 1000, len(sound) // 2)
    ramp = np.linspace(0.0, 1.0, fade, endpoint=False)
    sound[:fade] *= ramp
    sound[len(sound) - fade :] *= ramp[::-1]
    out: PCM = np.pad(np.rint(sound).astype(np.int16), (0, max(0, last - len(pcm))))
    return out, first * 1000 / rate


def limit(sound: NDArray[np.float64], rate: int) -> None:
    """Turn down, in place and without clipping, where peaks are too high."""
    most = 32767 * 10 ** (PEAK_DBFS / 20)
    if np.abs(sound).max(initial=0.0) <= most:
        return
    step = rate // 1000
    count = -(-len(sound) // step)
    padded = np.zeros(count * step)
    padded[: len(sound)] = np.abs(sound)
    need = np.minimum(1.0, most / np.maximum(padded.reshape(count, step).max(axis=1), 1e-9))
    # Every gain lies between two knots, and each knot is low enough for the steps of both sides.
    knots = np.minimum(np.append(need, 1.0), np.append(1.0, need))
    sound *= np.interp(np.arange(len(sound)), np.arange(count + 1) * step, knots)


class FinishedVoice(TimedSpeech):
    """A voice whose sentences are trimmed and levelled: one chunk each; ``text`` is one sentence."""

    def __init__(self, voice: TextToSpeech) -> None:
        self._voice = voice

    @property
    def sample_rate(self) -> int:
        """See :class:`TextToSpeech`."""
        return self._voice.sample_rate

    async def timed(self, text: str, language: str) -> AsyncGenerator[Stretch, None]:
        """See :class:`orchestrator.speech.base.TimedSpeech`."""
        raw = joined([each async for each in stretches_of(self._voice, text, language)])
        if len(raw.pcm):
            pcm, head_ms = trimmed(raw.pcm, self.sample_rate)
            yield Stretch(pcm, tuple(middle - head_ms for middle in raw.middles_ms))
