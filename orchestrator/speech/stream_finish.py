"""What :mod:`orchestrator.speech.finish` does for whole sentences, for one that comes in pieces and must not wait.

Silence is held back until it is known what follows. The level of a voice is known from the sentences before.
"""

from __future__ import annotations

import numpy as np

from orchestrator.speech.base import PCM
from orchestrator.speech.finish import (
    EDGE_DB,
    FADE_MS,
    HEAD_MS,
    LEVEL_DBFS,
    STEP_MS,
    TAIL_MS,
    active_level,
    limit,
    powers,
)

_MOST_GAIN_DB = 20.0
_NEW = 0.2
"""How much of a voice's level is that of its newest sentence."""
_SILENT = 1e-7


class VoiceLevel:
    """Of one voice, over its sentences."""

    def __init__(self) -> None:
        self.power = 0.0
        """Mean square while it speaks; 0.0: not known yet."""

    def learn(self, power: float) -> None:
        """A sentence had this one."""
        if power > _SILENT:
            self.power = power if not self.power else (1 - _NEW) * self.power + _NEW * power


class StreamFinish:
    """Of one sentence, at ``rate`` Hz; ``head_ms`` is how much of its beginning was left out."""

    def __init__(self, rate: int, level: VoiceLevel) -> None:
        self.head_ms = 0.0
        self._rate, self._level = rate, level
        self._power = level.power
        self._step = rate * STEP_MS // 1000
        self._held = np.zeros(0, np.int16)
        self._heard: list[np.ndarray] = []
        self._begun = False

    def push(self, pcm: PCM) -> PCM:
        """More of it, ``(n,)`` int16; what is settled comes back."""
        sound = np.concatenate((self._held, pcm))
        whole = len(sound) // self._step * self._step
        power = powers(sound[:whole], self._rate)
        if not self._power and len(power):
            self._power = active_level(power) if power.max() > _SILENT else 0.0
        (loud,) = np.nonzero(power > max(self._power * 10 ** (-EDGE_DB / 10), _SILENT))
        if not len(loud):
            keep = self._rate * HEAD_MS // 1000
            if not self._begun and whole > keep:
                self.head_ms += (whole - keep) * 1000 / self._rate
                sound = sound[whole - keep :]
            self._held = sound
            return np.zeros(0, np.int16)
        first = 0
        if not self._begun:
            first = max(0, int(loud[0]) * self._step - self._rate * HEAD_MS // 1000)
            self.head_ms += first * 1000 / self._rate
        last = min(whole, (int(loud[-1]) + 1) * self._step)
        self._held = sound[last:]
        self._heard.append(power[int(loud[0]) : int(loud[-1]) + 1])
        return self._levelled(sound[first:last])

    def flush(self) -> PCM:
        """It is over."""
        if not self._begun:
            return np.zeros(0, np.int16)
        self._level.learn(active_level(np.concatenate(self._heard)))
        tail = self._levelled(self._held[: self._rate * TAIL_MS // 1000])
        fade = min(self._rate * FADE_MS // 1000, len(tail))
        tail[len(tail) - fade :] = (tail[len(tail) - fade :] * np.linspace(1.0, 0.0, fade)).astype(np.int16)
        return tail

    def _levelled(self, pcm: PCM) -> PCM:
        gain = min(10 ** (LEVEL_DBFS / 20) / np.sqrt(self._power), 10 ** (_MOST_GAIN_DB / 20))
        sound = pcm.astype(np.float64) * gain
        if not self._begun:
            self._begun = True
            fade = min(self._rate * FADE_MS // 1000, len(sound))
            sound[:fade] *= np.linspace(0.0, 1.0, fade, endpoint=False)
        limit(sound, self._rate)
        out: PCM = np.rint(sound).astype(np.int16)
        return out
