"""A turn of speech on its way to who listens: its sound while it waits, and what is told of it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from visavis.playout.pacer import TurnWriter

PCM = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class TurnEvent:
    """``heard_ms``: how much of the turn's audio the listener was sent; ``wait_ms``: first audio to start;
    ``in_ms``: from this event to the start."""

    kind: Literal["started", "finished", "interrupted", "stalled", "resumed"]
    turn_id: int
    heard_ms: float = 0.0
    wait_ms: float = 0.0
    in_ms: float = 0.0


OnTurn = Callable[[TurnEvent], None]


@dataclass(slots=True)
class QueuedTurn:
    """A turn's sound that waits, for the listener at the codec's rate and for the avatar at 16 kHz."""

    turn_id: int
    chunks: deque[PCM] = field(default_factory=deque)
    buffered: int = 0  # samples at the codec's rate, not yet read
    unpushed: deque[PCM] = field(default_factory=deque)  # 16 kHz, kept until the turn is the current one
    read: int = 0  # samples at the codec's rate that were sent
    pushed: int = 0  # samples at 16 kHz given to the avatar
    ended: bool = False

    def feed(self, pcm_16k: PCM, pcm: PCM) -> None:
        """The same stretch of sound at both rates."""
        if len(pcm):
            self.chunks.append(pcm)
            self.buffered += len(pcm)
        if len(pcm_16k):
            self.unpushed.append(pcm_16k)

    def take(self, count: int) -> PCM:
        """Up to so many samples for the listener."""
        parts: list[PCM] = []
        while count and self.chunks:
            chunk = self.chunks.popleft()
            if len(chunk) > count:
                self.chunks.appendleft(chunk[count:])
                chunk = chunk[:count]
            parts.append(chunk)
            count -= len(chunk)
            self.buffered -= len(chunk)
            self.read += len(chunk)
        return np.concatenate(parts) if parts else np.zeros(0, np.int16)

    def push(self, avatar: TurnWriter) -> None:
        """Give the avatar what came for it."""
        while self.unpushed:
            pcm = self.unpushed.popleft()
            self.pushed += len(pcm)
            avatar.push_audio(pcm)
        if self.ended:
            avatar.end_turn()
