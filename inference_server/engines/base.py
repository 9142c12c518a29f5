"""What an engine is: the one interface that draws mouths, and the values that cross it.

An engine is synchronous and is called only in the engine process, by one thread. Streams, epochs, pacing and
sockets stay outside. Engines are found by entry point ``visavis.engines``; the entry is a callable that takes
the engine's settings (``Mapping[str, str]``) and returns an :class:`Engine`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from visavis.frames import I420, LoopFrames, Rect

Progress = Callable[[float, str], None]
"""Called with progress 0..1 and one short sentence, for the log and the readiness page."""


class EngineError(Exception):
    """Base of what an engine may raise; the message is one clear sentence with what to do."""


class ModelMissing(EngineError):
    """A weight file is missing or damaged: the server refuses readiness and says which."""


class ImageRejected(EngineError):
    """The portrait cannot be used (no face, two faces, profile...): the sentence is for who uploaded it."""


class NoMemory(EngineError):
    """Nothing more fits on the device now."""


class BatchFailed(EngineError):
    """This batch is lost (out of memory...), the engine lives: retried at a smaller bucket."""


class EngineDead(EngineError):
    """The engine cannot go on (a sticky CUDA error): the process ends and is started again."""


@dataclass(frozen=True)
class EngineInfo:
    """What an engine tells about itself, constant after :meth:`Engine.load`."""

    name: str
    build: str  # digest of code and weights; part of every avatar_id
    look_ahead: int = 0  # samples needed beyond the end of a frame
    history: int = 0  # samples before a frame that still shape it
    buckets: tuple[int, ...] = (1, 2, 4, 8)  # batch sizes, ascending
    closing_frames: int = 3  # frames after the end of a turn that bring the mouth to rest
    max_width: int = 1920
    max_height: int = 1080
    avatar_settings: tuple[str, ...] | None = (
        None  # those of prepare(); others are refused. None: any are taken
    )


@dataclass(frozen=True)
class Device:
    """One of several devices that an engine could draw on, each in a process of its own.

    An engine tells them in a property ``devices``, a sequence of these, the one that it would itself draw on first.
    ``settings`` and ``environment`` (variables) are what a process gets that is to draw on this one alone.
    """

    name: str
    settings: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BodyLoop:
    """The body frames that idle plays and every mouth is drawn on; made by ``avatars/loop.py`` only.

    ``frames``: ``(n, height * 3 // 2, width)`` uint8 I420, an array or :class:`visavis.frames.SharedFrames`.
    ``landmarks``: ``(n, 468, 2)`` float32, FaceMesh points in pixels of each frame. ``motion``: ``(n, 2, 3)``
    float32, the affine that takes the mouth region of ``reference`` to frame i. ``reference``: ``(height, width,
    3)`` uint8 RGB, the picture at rest;
    ``original``: the same before its lips were closed, where they were open.
    ``jumps``: pairs (from, to) where playback may go on at ``to`` after ``from``. ``segments``: pairs (start, what
    the body does from there on), of bodies that are cut into such. ``cast``: which built-in face it shows, by the
    digest of the picture's pixels, and ``framing`` ``(2, 3)`` float32, the affine from that picture's pixels to
    those of ``reference``; "" and ``None`` for any other.
    """

    body_id: str
    width: int
    height: int
    fps: Fraction
    frames: LoopFrames
    landmarks: NDArray[np.float32]
    motion: NDArray[np.float32]
    reference: NDArray[np.uint8]
    jumps: tuple[tuple[int, int], ...]
    sha256: bytes
    original: NDArray[np.uint8] | None = None
    segments: tuple[tuple[int, str], ...] = ()
    cast: str = ""
    framing: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def frame(self, index: int) -> I420:
        """Body frame ``index`` modulo the length."""
        picture: I420 = self.frames[index % len(self.frames)]
        return picture


@dataclass(frozen=True)
class Prepared:
    """What an engine made of a body: arrays and small JSON values, nothing else, so that the store can keep
    it on disk and export it without knowing the engine."""

    arrays: Mapping[str, NDArray[Any]]
    meta: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        return sum(a.nbytes for a in self.arrays.values())


class Handle(Protocol):
    """A prepared avatar resident in the engine."""

    @property
    def largest_rect(self) -> Rect:
        """No rectangle of this avatar is outside it."""

    def rect(self, loop_index: int) -> Rect:
        """The rectangle of a mouth drawn on this body frame; constant per loop index."""


class Track(Protocol):
    """The audio of one (turn, epoch). Which frames it yields is a pure function of its PCM; what they show may
    further depend on audio after ``look_ahead`` that was there, and on a :class:`Levelled` track's level."""

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More audio, 16 kHz mono, of any length."""

    def end(self) -> None:
        """No more audio comes: what is there can be rendered to its end."""

    def ready(self) -> int:
        """Frames, counted from the turn's frame 0, that can be rendered now."""

    def close(self) -> None:
        """Drop the audio and cancel queued rows."""


@runtime_checkable
class Levelled(Protocol):
    """A track that listens better when it knows how loud the voice was in the conversation's turn before."""

    @property
    def level(self) -> float:
        """Of this turn so far, finite, in a unit of the engine's own."""

    def expect(self, level: float) -> None:
        """That of the turn before; called before any audio."""


@dataclass(frozen=True, slots=True)
class Row:
    """One frame to draw. ``out`` takes the rectangle's I420 pixels, packed.

    ``frame`` is always below the track's ``ready()``. Closing frames are the turn's last frame once more, on
    the following body frames and with a falling ``alpha``.
    """

    track: Track
    frame: int
    loop_index: int
    alpha: float  # 1: the mouth as it is; towards 0: towards the body (closing frames)
    out: memoryview


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a row. ``body``: the mouth is at rest and nothing was written."""

    kind: Literal["mouth", "body", "failed"]
    rect: Rect | None = None
    error: str | None = None


@dataclass(frozen=True)
class Memory:
    """Bytes in use and bytes available for avatars and work."""

    used: int
    total: int


class Ticket(Protocol):
    """A batch under way."""


class Engine(Protocol):
    """See the module's docstring. Methods are called by one thread of the engine process."""

    @property
    def info(self) -> EngineInfo:
        """Known after :meth:`load`."""

    def load(self, progress: Progress) -> None:
        """Load weights and warm up every bucket. Raises :class:`ModelMissing`."""

    def prepare(self, body: BodyLoop, settings: Mapping[str, str]) -> Iterator[float | Prepared]:
        """Steps of at most 10 ms; yields progress 0..1, at last the result. Raises :class:`ImageRejected`."""

    def attach(self, prepared: Prepared, body: BodyLoop) -> Handle:
        """Make an avatar resident. Raises :class:`NoMemory`."""

    def detach(self, handle: Handle) -> None:
        """Let go of it, deferred past work in flight."""

    def track(self, handle: Handle, fps: Fraction, origin: int) -> Track:
        """A new turn's audio whose first appended sample is number ``origin`` of the turn."""

    def cost_ms(self, rows: int) -> float:
        """Measured time of a batch; admission and batch size use it."""

    def submit(self, rows: Sequence[Row]) -> Ticket:
        """Start a batch. Raises :class:`BatchFailed` or :class:`EngineDead`."""

    def collect(self, ticket: Ticket, wait_s: float) -> list[Result] | None:
        """Results in the rows' order, or ``None`` when not ready after ``wait_s``. Raises as ``submit``."""

    def memory(self) -> Memory:
        """Bytes used and available."""

    def close(self) -> None:
        """Give everything back."""


EngineFactory = Callable[[Mapping[str, str]], Engine]
