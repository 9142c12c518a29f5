"""What a caller's recording shows of the lips and the voice."""

from __future__ import annotations

import numpy as np

from testing.caller.movie import aligned
from testing.caller.recording import Recording
from testing.card import read_card


def lips(recording: Recording) -> np.ndarray:
    """Moments, on the voice's time line, at which a mouth was shown."""
    frames = recording.frames()
    times = aligned(recording, frames)
    cards = [read_card(frame.image) for frame in frames]
    return np.array([at for at, card in zip(times, cards, strict=True) if card and card.mouth])


def gaps(moments: np.ndarray, longer_than: float = 0.3) -> list[tuple[float, float]]:
    """Where the lips were away: (from, seconds)."""
    steps = np.diff(moments)
    return [(float(moments[i]), float(step)) for i, step in enumerate(steps) if step > longer_than]


def assert_voice_whole(recording: Recording, seconds: float) -> None:
    """No audio packet missing, and the whole turn heard."""
    assert recording.audio.lost == 0
    stamps = [p.timestamp for p in recording.audio.ordered()]
    assert set(np.diff(stamps)) == {160}
    samples = recording.samples()
    blocks = np.abs(samples[: len(samples) // 160 * 160]).reshape(-1, 160).max(axis=1) > 500
    assert blocks.sum() * 0.02 >= seconds - 0.05
