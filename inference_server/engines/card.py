"""The test card: body frames and mouths whose meaning can be read back from the pixels, after H.264 too.

Everything is made of black and white cells, sixteen to a row. The top of every body frame says which loop
index and which avatar it is; the mouth rectangle says frame number, loop index, avatar, a digest of the very
audio that the frame covers, and its loudness. :func:`read_card` reads a decoded picture of any size.
"""

from __future__ import annotations

import itertools
import zlib
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from visavis.frames import I420, Rect, i420_planes, inside

BITS = 16
LOOP_BITS = 10
BLACK, GREY, WHITE = 16, 126, 235
CONTRAST = 18  # grey levels that a cell must differ from grey by; a closing mouth is blended to a third
_BARS = ((180, 44, 142), (168, 136, 44), (145, 147, 34), (133, 63, 52), (112, 114, 212), (84, 212, 114))


def audio_crc(pcm: NDArray[np.int16]) -> int:
    """Sixteen bits that name the samples of a frame; 0 for none."""
    return zlib.crc32(np.ascontiguousarray(pcm, "<i2").tobytes()) & 0xFFFF if len(pcm) else 0


def mouth_rect(width: int, height: int) -> Rect:
    """Where the mouth lies on a card of this size; even in all four numbers."""
    return Rect(*(int(v) // 2 * 2 for v in (width * 0.1875, height * 0.58, width * 0.625, height * 0.36)))


def draw_body(
    width: int,
    height: int,
    loop_index: int,
    length: int,
    number: int,
    colour: tuple[int, int, int] | None = None,
) -> I420:
    """Body frame ``loop_index`` of ``length``; ``colour`` is Y, U, V of the background."""
    picture = np.empty((height * 3 // 2, width), np.uint8)
    y, u, v = i420_planes(picture, width, height)
    luma, cb, cr = colour or (GREY, 128, 128)
    y[:], u[:], v[:] = luma, cb, cr
    for word, (top, bottom) in zip(body_words(loop_index, number), body_rows(height), strict=True):
        y[top:bottom] = _cells(word, width)
        u[top // 2 : bottom // 2], v[top // 2 : bottom // 2] = 128, 128
    if colour is None:
        _draw_bars(y, u, v, width, height)
    top, bottom = int(height * 0.48), int(height * 0.54)
    at = int((width - 8) * loop_index / max(length - 1, 1))
    y[top:bottom, at : at + 8] = WHITE
    for plane, value in zip(inside((y, u, v), mouth_rect(width, height)), (GREY, 128, 128), strict=True):
        plane[:] = value
    return picture


def draw_mouth(
    out: NDArray[np.uint8], rect: Rect, frame: int, loop_index: int, number: int, crc: int, level: float
) -> None:
    """A mouth into ``out``, the packed I420 of ``rect``."""
    y, u, v = i420_planes(out, rect.width, rect.height)
    y[:] = GREY
    u[:], v[:] = 128, 128
    rows = mouth_rows(rect.height)
    for word, (top, bottom) in zip(mouth_words(frame, loop_index, number, crc), rows, strict=False):
        y[top:bottom] = _cells(word, rect.width)
    top, bottom = rows[-1]
    y[top:bottom] = BLACK
    y[top:bottom, : int(rect.width * min(max(level, 0.0), 1.0))] = WHITE


def _check(*values: int) -> int:
    return zlib.crc32(b"".join(v.to_bytes(4, "big") for v in values)) & ((1 << (BITS - LOOP_BITS)) - 1)


def body_words(loop_index: int, number: int) -> tuple[int, int]:
    loop, number = loop_index & ((1 << LOOP_BITS) - 1), number & 0xFFFF
    return loop << (BITS - LOOP_BITS) | _check(loop, number), number


def mouth_words(frame: int, loop_index: int, number: int, crc: int) -> tuple[int, int, int, int]:
    frame, loop, number = frame & 0xFFFF, loop_index & ((1 << LOOP_BITS) - 1), number & 0xFFFF
    return frame, loop << (BITS - LOOP_BITS) | _check(frame, loop, number, crc), number, crc


def body_rows(height: int) -> list[tuple[int, int]]:
    edges = [int(height * share) // 2 * 2 for share in (0, 0.1, 0.2)]
    return list(itertools.pairwise(edges))


def mouth_rows(height: int) -> list[tuple[int, int]]:
    edges = [int(height * share / 5) for share in range(6)]
    return list(itertools.pairwise(edges))


@lru_cache(maxsize=64)
def _columns(width: int) -> NDArray[np.int64]:
    return np.arange(width) * BITS // width


def _cells(word: int, width: int) -> NDArray[np.uint8]:
    bits = np.array([WHITE if word >> (BITS - 1 - i) & 1 else BLACK for i in range(BITS)], np.uint8)
    return bits[_columns(width)]


def _draw_bars(y: I420, u: I420, v: I420, width: int, height: int) -> None:
    """Colour bars (75 %), so that a wrong matrix or swapped planes are seen and measured."""
    top, bottom = (int(height * share) // 2 * 2 for share in (0.24, 0.46))
    for bar, (luma, cb, cr) in enumerate(_BARS):
        left, right = (width * place // len(_BARS) // 2 * 2 for place in (bar, bar + 1))
        y[top:bottom, left:right] = luma
        u[top // 2 : bottom // 2, left // 2 : right // 2] = cb
        v[top // 2 : bottom // 2, left // 2 : right // 2] = cr
