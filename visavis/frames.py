"""Frames of a turn, their place in time, and I420 pixels.

I420 here is BT.601 limited range with left-sited chroma, planes packed Y, U, V: a picture of
``height`` x ``width`` is one ``uint8`` array of shape ``(height * 3 // 2, width)``. Rectangles are even in
all four numbers, so that a pasted rectangle equals the whole frame bit for bit.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from visavis.deprecated import moved

SAMPLE_RATE = 16_000
"""Samples per second of the audio that a turn is counted in."""

FrameKind = Literal["mouth", "body"]
I420 = NDArray[np.uint8]


class Sized:
    """Something made of pictures of ``width`` x ``height`` pixels."""

    width: int
    height: int

    @property
    def frame_bytes(self) -> int:
        """Bytes of one of them in I420."""
        return self.width * self.height * 3 // 2


class Rect(NamedTuple):
    """A rectangle in pixels; even in all four numbers."""

    x: int
    y: int
    width: int
    height: int

    @property
    def i420_size(self) -> int:
        """Bytes of this rectangle in I420."""
        return self.width * self.height * 3 // 2

    def validate(self, width: int, height: int) -> None:
        """Raise ``ValueError`` unless the rectangle is even, not empty and inside ``width`` x ``height``."""
        if any(v < 0 or v % 2 for v in self) or not self.width or not self.height:
            raise ValueError(f"rectangle {tuple(self)} must be even in all four numbers and not empty")
        if self.x + self.width > width or self.y + self.height > height:
            raise ValueError(f"rectangle {tuple(self)} reaches outside the {width}x{height} picture")


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a turn as the server sent it.

    ``sample`` is the first 16 kHz sample that the frame covers, ``pixels`` the rectangle in I420 (``None``
    for a ``body`` frame, whose picture is the loop frame itself), ``last`` marks the end of the turn.
    """

    turn_id: int
    epoch: int
    sample: int
    loop_index: int
    kind: FrameKind
    rect: Rect | None = None
    pixels: bytes | None = None
    last: bool = False


class SharedFrames:
    """Frames of a loop some of which are the same picture, kept once: frame i is ``pictures[order[i]]``.

    Reads like an array ``(n, height * 3 // 2, width)``, frame by frame; ``nbytes`` are those of the pictures.
    """

    def __init__(self, pictures: NDArray[np.uint8], order: NDArray[np.integer]) -> None:
        self.pictures = pictures
        self.order = order

    @property
    def shape(self) -> tuple[int, ...]:
        """Of all frames."""
        return len(self.order), *self.pictures.shape[1:]

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        """Of a sample."""
        return self.pictures.dtype

    @property
    def nbytes(self) -> int:
        """What is kept."""
        return self.pictures.nbytes

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int) -> I420:
        picture: I420 = self.pictures[self.order[index]]
        return picture

    def __array__(self, dtype: object = None, copy: bool | None = None) -> I420:
        frames: I420 = self.pictures[self.order]
        return frames


LoopFrames = NDArray[np.uint8] | SharedFrames
"""Frames of a loop: ``(n, height * 3 // 2, width)`` uint8, I420."""

PICTURES_ONCE = "application/vnd.visavis.loop"
"""Media type of a loop in which each picture is there once; docs/http.md has its layout."""


def first_shown(frames: LoopFrames) -> list[int]:
    """For each frame the index of the first one that is the same picture; its own where none of them is shared."""
    if not isinstance(frames, SharedFrames):
        return list(range(len(frames)))
    first: dict[int, int] = {}
    return [first.setdefault(int(picture), index) for index, picture in enumerate(frames.order)]


def digest(frames: LoopFrames) -> bytes:
    """SHA-256 of all of them in order."""
    found = hashlib.sha256()
    for index in range(len(frames)):
        found.update(np.ascontiguousarray(frames[index]).data)
    return found.digest()


def frame_start(k: int, fps: Fraction) -> int:
    """First sample of frame ``k``: floor(16000 * k / fps)."""
    return int(SAMPLE_RATE * k * fps.denominator // fps.numerator)


def frame_at(sample: int, fps: Fraction) -> int:
    """The frame that covers ``sample``: the largest k with ``frame_start(k) <= sample``."""
    k = int(sample * fps.numerator // (SAMPLE_RATE * fps.denominator))
    return k + 1 if frame_start(k + 1, fps) <= sample else k


def i420_planes(picture: I420, width: int, height: int) -> tuple[I420, I420, I420]:
    """Views of Y ``(height, width)``, U and V ``(height // 2, width // 2)`` of a packed picture."""
    flat = picture.reshape(-1)
    y, c = width * height, width * height // 4
    return (
        flat[:y].reshape(height, width),
        flat[y : y + c].reshape(height // 2, width // 2),
        flat[y + c : y + 2 * c].reshape(height // 2, width // 2),
    )


def inside(planes: tuple[I420, I420, I420], rect: Rect) -> tuple[I420, I420, I420]:
    """Views of a rectangle of Y, U and V."""
    x, y, w, h = rect
    half = (slice(y // 2, (y + h) // 2), slice(x // 2, (x + w) // 2))
    return planes[0][y : y + h, x : x + w], planes[1][half], planes[2][half]


def crop_i420(picture: I420, width: int, height: int, rect: Rect) -> bytes:
    """The rectangle of a packed picture, packed the same way."""
    return b"".join(plane.tobytes() for plane in inside(i420_planes(picture, width, height), rect))


def paste_i420(picture: I420, width: int, height: int, rect: Rect, pixels: bytes | memoryview) -> None:
    """Write a packed rectangle into a packed picture, in place."""
    patch = i420_planes(np.frombuffer(pixels, np.uint8), rect.width, rect.height)
    y, u, v = inside(i420_planes(picture, width, height), rect)
    y[:], u[:], v[:] = patch


if not TYPE_CHECKING:
    __getattr__ = moved(__name__, {"i420_to_rgb": "visavis.rgb:to_rgb"})
