"""G.711 (ITU-T): what each of the 256 codes of mu-law and A-law stands for, and the code of each sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def mu_law() -> NDArray[np.int16]:
    """``(256,)`` samples, by code (tables 2a and 2b)."""
    code = ~np.arange(256) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << (code >> 4 & 7)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


def a_law() -> NDArray[np.int16]:
    """``(256,)`` samples, by code (tables 1a and 1b)."""
    code = np.arange(256) ^ 0x55
    segment, mantissa = code >> 4 & 7, (code & 0x0F) << 4
    magnitude = np.where(segment == 0, mantissa + 8, (mantissa + 0x108) << np.maximum(segment - 1, 0))
    return np.where(code & 0x80, magnitude, -magnitude).astype(np.int16)


def encode_table(decode: NDArray[np.int16]) -> NDArray[np.uint8]:
    """``(65536,)``: the code whose value is nearest, for each sample seen as unsigned."""
    # Of the two zeros of mu-law the positive one (0xFF) is silence.
    values, codes = np.unique(decode[::-1].astype(np.int32), return_index=True)
    samples = np.arange(1 << 16).astype(np.uint16).view(np.int16)
    nearest = np.searchsorted((values[1:] + values[:-1]) / 2, samples, side="right")
    return (255 - codes[nearest]).astype(np.uint8)
