"""G.711 (ITU-T): what each of the 256 codes of mu-law and A-law stands for."""

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
