"""What a phone saw and heard of the test card: pictures read back, on the time line of the voice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from testing.caller.movie import aligned
from testing.caller.recording import Recording, VideoFrame
from testing.card import CardReading, read_card

RATE = 8000


@dataclass
class Seen:
    """One received picture: when it is due on the voice's time line, and what its card says."""

    at: float
    card: CardReading
    frame: VideoFrame


def watch(recording: Recording) -> list[Seen]:
    """Read every received picture."""
    frames = recording.frames()
    cards = [read_card(frame.image) for frame in frames]
    assert None not in cards
    times = aligned(recording, frames)
    return [Seen(at, card, frame) for at, card, frame in zip(times, cards, frames, strict=True) if card]


def assert_body_never_jumps(seen: Sequence[Seen], loop: int, fps: int) -> None:
    """One loop index a tick from first to last, mouths on their own loop frame, no gap above 80 ms.

    A picture may only be the one of its tick or, held where a mouth came late, the one before it again.
    """
    ticks = [round((s.frame.timestamp - seen[0].frame.timestamp) * fps / 90_000) for s in seen]
    start = seen[0].card.loop_index
    for i in range(1, len(seen)):
        assert 0 < ticks[i] - ticks[i - 1] <= 80 * fps / 1000
        due = (start + ticks[i]) % loop
        assert seen[i].card.loop_index in (due, seen[i - 1].card.loop_index), (seen[i - 1], seen[i], due)
    for s in seen:
        if s.card.mouth is not None:
            assert s.card.mouth.loop_index == s.card.loop_index


def loud(recording: Recording) -> np.ndarray:
    """Sample numbers where there is sound."""
    return np.flatnonzero(np.abs(recording.samples()) > 500)
