"""How long the installed voices are silent before and between sentences, and how loud they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.motion.figures import Figure
from orchestrator.speech.finish import FinishedVoice, active_level, powers
from orchestrator.speech.heard_text import HeardText
from orchestrator.speech.spoken import spoken, whole
from orchestrator.speech.voices import VOICES

TEXT = "Hello, this is the first sentence. And this is the second one. Here is a third to be sure."
_SOUND_DB = -50.0
_BETWEEN_MS = 200


async def said(voice: FinishedVoice) -> NDArray[np.int16]:
    """All sentences as a call hears them, at the voice's rate."""
    parts = [chunk async for chunk in spoken(voice, whole(TEXT), "en", HeardText())]
    return np.concatenate(parts) if parts else np.zeros(0, np.int16)


def figures_of(name: str, pcm: NDArray[np.int16], rate: int) -> list[Figure]:
    """Silence and level of one voice."""
    step = rate // 200
    blocks = pcm[: len(pcm) // step * step].reshape(-1, step).astype(np.float64)
    sound = 20 * np.log10(np.sqrt((blocks**2).mean(1)) / 32768 + 1e-9) > _SOUND_DB
    edges = np.flatnonzero(np.diff(np.concatenate(([0], sound.astype(int), [0])))).reshape(-1, 2)
    before = float(edges[0, 0] * 5)
    gaps = [
        float(b - a) * 5
        for a, b in zip(edges[:-1, 1], edges[1:, 0], strict=True)
        if (b - a) * 5 >= _BETWEEN_MS
    ]
    level = 10 * np.log10(max(active_level(powers(pcm, rate)), 1e-9))
    peak = 20 * np.log10(max(1, int(np.abs(pcm.astype(np.int32)).max())) / 32768)
    between = f"{min(gaps, default=0):.0f} to {max(gaps, default=0):.0f} ms"
    return [
        Figure(f"{name}: silence before", f"{before:.0f} ms", "<= 30 ms", before <= 30),
        Figure(
            f"{name}: silence between sentences", between, "250 to 400 ms",
            bool(gaps) and all(250 <= g <= 400 for g in gaps),
        ),
        Figure(
            f"{name}: active level, peak", f"{level:.1f}, {peak:.1f} dBFS", "-23 +- 1, <= -3",
            abs(level + 23) <= 1 and peak <= -3,
        ),
    ]  # fmt: skip


async def measured() -> list[Figure]:
    """Every voice that is installed."""
    out: list[Figure] = []
    for name, factory in VOICES.items():
        voice = FinishedVoice(factory())
        out += figures_of(name, await said(voice), voice.sample_rate)
    return out
