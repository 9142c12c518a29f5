"""The conversion of I420 to RGB24 for live pictures: OpenCV where it is installed, else numpy in fixed point."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from visavis.frames import I420, i420_planes

_BITS = 5
_STEPS = np.arange(256)


def _table(weight: float, zero: int) -> NDArray[np.int16]:
    table: NDArray[np.int16] = np.rint(weight * (_STEPS - zero) * (1 << _BITS)).astype(np.int16)
    return table


_Y = _table(255 / 219, 16) + np.int16(1 << (_BITS - 1))
_RV, _GU, _GV, _BU = (_table(w * 255 / 224, 128) for w in (1.402, -0.344136, -0.714136, 1.772))


@cache
def _opencv() -> Callable[[I420], NDArray[np.uint8]] | None:
    try:
        cv2: Any = importlib.import_module("cv2")
    except ImportError:
        return None
    return lambda picture: cv2.cvtColor(picture, cv2.COLOR_YUV2RGB_I420)


def to_rgb(picture: I420, width: int, height: int) -> NDArray[np.uint8]:
    """RGB24 ``(height, width, 3)`` of a packed picture; within two levels of exact BT.601 (ITU-R BT.601-7)."""
    fast = _opencv()
    if fast is not None and width % 4 == 0 and height % 4 == 0:
        return fast(picture.reshape(height * 3 // 2, width))
    return rgb_numpy(picture, width, height)


def rgb_numpy(picture: I420, width: int, height: int) -> NDArray[np.uint8]:
    """The same with numpy alone."""
    y, u, v = i420_planes(picture, width, height)
    luma = np.take(_Y, y).reshape(height // 2, 2, width)
    out = np.empty((height, width, 3), np.uint8)
    room = np.empty_like(luma)
    for channel, chroma in enumerate((_RV[v], _GU[u] + _GV[v], _BU[u])):
        np.add(luma, np.repeat(chroma, 2, 1)[:, None, :], out=room)
        np.right_shift(room, _BITS, out=room)
        np.clip(room, 0, 255, out=room)
        out[..., channel] = room.reshape(height, width)
    return out
