"""The corner mark: a few letters in the upper left of every picture, drawn as the last thing before it is coded.

It is opaque and as large in the picture that is sent, whatever was scaled to that: the same pixels in cached and
in live pictures.
"""

from __future__ import annotations

import numpy as np

from visavis.frames import I420, Rect, inside

# Seven rows of five pixels each.
_GLYPHS = {
    letter: bytes.fromhex(rows)
    for letter, rows in {
        "A": "0e11111f111111", "B": "1e11111e11111e", "C": "0e11101010110e", "D": "1e11111111111e",
        "E": "1f10101e10101f", "F": "1f10101e101010", "G": "0e11101711110f", "H": "1111111f111111",
        "I": "0e04040404040e", "J": "0702020202120c", "K": "11121418141211", "L": "1010101010101f",
        "M": "111b1515111111", "N": "11111915131111", "O": "0e11111111110e", "P": "1e11111e101010",
        "Q": "0e11111115120d", "R": "1e11111e141211", "S": "0f10100e01011e", "T": "1f040404040404",
        "U": "1111111111110e", "V": "11111111110a04", "W": "1111111515150a", "X": "11110a040a1111",
        "Y": "11110a04040404", "Z": "1f01020408101f",
    }.items()
}  # fmt: skip
_BLACK, _WHITE, _GREY = 16, 235, 128  # of limited range; grey of both chroma planes
_PAD = 2
_SIDE_PER_STEP = 256


def corner_mark(text: str, planes: tuple[I420, ...]) -> list[tuple[I420, I420]]:
    """Where to copy what: views of Y, U and V of a picture, each with the pixels that are the mark there.

    ``text``: letters A to Z; "" is no mark. A letter is 14 pixels high where the shorter side has up to 383, and
    a twentieth of it beyond that.
    """
    if not text:
        return []
    height, width = planes[0].shape
    scale = 2 * max(1, round(min(width, height) / _SIDE_PER_STEP))  # even, and so is everything
    letters = [np.unpackbits(np.frombuffer(_GLYPHS[each], np.uint8)[:, None], axis=1)[:, 3:] for each in text]
    row = np.hstack([np.pad(letter, ((0, 0), (0, 1))) for letter in letters])[:, :-1]
    bits = np.pad(row, _PAD).repeat(scale, axis=0).repeat(scale, axis=1)[: height - scale, : width - scale]
    luma = np.where(bits, _WHITE, _BLACK).astype(np.uint8)
    where = inside((planes[0], planes[1], planes[2]), Rect(scale, scale, luma.shape[1], luma.shape[0]))
    return [(where[0], luma), *((view, np.full(view.shape, _GREY, np.uint8)) for view in where[1:])]
