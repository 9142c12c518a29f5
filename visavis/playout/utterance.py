"""One turn of a voice as a performer keeps it: what was fed of it, and when it is heard."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from visavis.frames import frame_start


class TurnSink(Protocol):
    """Where turns go; :class:`visavis.AvatarStream` is one. Audio is int16, 16 kHz mono; no method waits."""

    def start_turn(self, turn_id: int, epoch: int) -> None: ...
    def push_audio(self, pcm: NDArray[np.int16]) -> None: ...
    def end_turn(self) -> None: ...
    def anchor(self, sample: int, loop_index: int) -> None: ...
    def playhead(self, sample: int, playing: bool = True) -> None: ...
    def interrupt(self, epoch: int) -> None: ...


@dataclass(slots=True)
class Utterance:
    """Counted in samples of 16 kHz mono and in video ticks."""

    fps: Fraction
    start: int
    """The tick at which sample ``base`` is heard."""
    base: int = 0
    fed: int = 0
    ended: bool = False
    last_fed_at: float = 0.0
    closed: bool = False
    """The playout knows where it ends."""
    dry: bool = False
    """A tick found no audio."""
    origin: int = 0
    """Samples of the voice before this turn, where its playing is followed."""
    begun: bool = False
    """Its first sample was heard, where its playing is followed."""

    def at(self, tick: int) -> int:
        """The sample that is heard at this tick."""
        return self.base + frame_start(tick - self.start, self.fps)


@dataclass(slots=True)
class Waiting:
    """Audio of a turn that cannot start while another one plays."""

    chunks: list[NDArray[np.int16]] = field(default_factory=list)
    ended: bool = False
    last_fed_at: float = 0.0
