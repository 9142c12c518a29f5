"""What a call plays: its voice, its face and the body under the face."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from visavis.frames import LoopFrames
from visavis.playout.playout import Picture


class Voice(Protocol):
    """The call's outgoing audio."""

    def read(self, packet: int) -> NDArray[np.int16] | None:
        """20 ms of mono PCM at the codec's sample rate, ``None`` for silence.

        ``packet`` counts 20 ms steps of the call's clock; it jumps where the clock was late by more than
        ``CATCH_UP_SECONDS`` or the call was on hold.
        """


class Body(Protocol):
    """Loop frames of one avatar at one size: ``frames[i]`` is I420 of shape ``(height * 3 // 2, width)``.

    ``jumps``: pairs (from, to) of loop indices; after ``from``, ``to`` may follow while idle. ``segments``: pairs
    (loop index, what the body does from there on), where it is cut into such.
    """

    @property
    def body_id(self) -> str: ...
    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def frames(self) -> LoopFrames: ...
    @property
    def jumps(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def segments(self) -> tuple[tuple[int, str], ...]: ...


class Face(Protocol):
    """The call's outgoing picture."""

    @property
    def body(self) -> Body:
        """The body that pictures refer to now; may change between ticks."""

    def tick(self, frame: int) -> Picture:
        """The picture of video frame ``frame`` of the call's clock; same jumps as ``Voice.read``."""


class Hearing(Protocol):
    """Who listens to the caller; called on the media clock, so it must be quick."""

    @property
    def listens(self) -> bool:
        """Whether ``heard`` is wanted now; decoding is left out where it is not."""

    def heard(self, pcm: NDArray[np.int16], sent: NDArray[np.int16], rate: int) -> None:
        """20 ms of the caller's voice, mono, 16 kHz, concealed where packets were lost, and what the caller was
        sent in the same tick, at the codec's ``rate``."""

    def digit(self, digit: str, milliseconds: int) -> None:
        """A key was pressed (RFC 4733)."""


class StillBody:
    """A body of given frames: a portrait still, or a loop held in memory."""

    def __init__(
        self,
        body_id: str,
        frames: LoopFrames,
        jumps: tuple[tuple[int, int], ...] = (),
        segments: tuple[tuple[int, str], ...] = (),
    ) -> None:
        self.body_id = body_id
        self.frames = frames
        self.jumps = jumps
        self.segments = segments
        self.width = int(frames.shape[2])
        self.height = int(frames.shape[1]) * 2 // 3


class SilentVoice:
    """Silence for ever."""

    def read(self, packet: int) -> NDArray[np.int16] | None:
        return None
