"""The mock engine's test card read back from a decoded picture, after H.264 too."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference_server.engines.card import (
    BITS,
    GREY,
    LOOP_BITS,
    body_rows,
    body_words,
    mouth_rect,
    mouth_rows,
    mouth_words,
)
from visavis.frames import Rect

CONTRAST = 18  # grey levels that a cell must differ from grey by; a closing mouth is blended to a third


@dataclass(frozen=True)
class MouthReading:
    """What the mouth rectangle says. ``level`` is 0..1."""

    frame: int
    loop_index: int
    number: int
    audio_crc: int
    level: float


@dataclass(frozen=True)
class CardReading:
    """What a picture says; ``mouth`` is ``None`` where the picture is the plain body."""

    loop_index: int
    number: int
    mouth: MouthReading | None


def read_card(picture: NDArray[np.uint8]) -> CardReading | None:
    """Read a picture: RGB ``(height, width, 3)`` or luma ``(height, width)``; ``None`` if it is no card."""
    luma = picture.astype(np.float32)
    if luma.ndim == 3:
        luma = (luma @ np.array([65.481, 128.553, 24.966]) / 255 + 16).astype(np.float32)
    height, width = luma.shape
    words = [_read_word(luma, 0, width, top, bottom) for top, bottom in body_rows(height)]
    if None in words:
        return None
    first, number = int(words[0] or 0), int(words[1] or 0)
    loop_index = first >> (BITS - LOOP_BITS)
    if body_words(loop_index, number)[0] != first:
        return None
    return CardReading(loop_index, number, _read_mouth(luma, mouth_rect(width, height)))


def _read_mouth(luma: NDArray[np.float32], rect: Rect) -> MouthReading | None:
    rows = [(rect.y + top, rect.y + bottom) for top, bottom in mouth_rows(rect.height)]
    words = [_read_word(luma, rect.x, rect.width, top, bottom) for top, bottom in rows[:4]]
    if any(word is None for word in words):
        return None
    frame, second, number, crc = (int(word or 0) for word in words)
    loop_index = second >> (BITS - LOOP_BITS)
    if mouth_words(frame, loop_index, number, crc)[1] != second:
        return None
    top, bottom = rows[-1]
    middle = (top + bottom) // 2
    bar = luma[middle - 1 : middle + 2, rect.x : rect.x + rect.width].mean(axis=0)
    return MouthReading(frame, loop_index, number, crc, float((bar > GREY).mean()))


def _read_word(luma: NDArray[np.float32], x: int, width: int, top: int, bottom: int) -> int | None:
    """Sixteen cells; ``None`` where one of them is neither black nor white."""
    edges = x + np.arange(BITS + 1) * width / BITS
    margin, quarter = width / BITS / 4, (bottom - top) / 4
    rows = slice(int(top + quarter), max(int(bottom - quarter), int(top + quarter) + 1))
    word = 0
    for left, right in itertools.pairwise(edges):
        value = float(
            luma[rows, int(left + margin) : max(int(right - margin), int(left + margin) + 1)].mean()
        )
        if abs(value - GREY) < CONTRAST:
            return None
        word = word << 1 | (value > GREY)
    return word
