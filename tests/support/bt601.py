"""Exact colours, to judge faster conversions by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visavis.frames import I420, i420_planes


def exact_rgb(picture: I420, width: int, height: int) -> NDArray[np.uint8]:
    """RGB24 of shape ``(height, width, 3)`` from BT.601 limited-range I420 (ITU-R BT.601-7)."""
    y, u, v = i420_planes(picture, width, height)
    luma = (y.astype(np.int32) - 16) * 298
    du = np.repeat(np.repeat(u.astype(np.int32) - 128, 2, 0), 2, 1)
    dv = np.repeat(np.repeat(v.astype(np.int32) - 128, 2, 0), 2, 1)
    rgb = np.stack((luma + 409 * dv, luma - 100 * du - 208 * dv, luma + 516 * du), axis=-1)
    out: NDArray[np.uint8] = np.clip((rgb + 128) >> 8, 0, 255).astype(np.uint8)
    return out
