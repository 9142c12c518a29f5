"""RGB to I420 planes: BT.601 limited range, chroma sited left (ITU-R BT.601-7, H.264 E.2.1 type 0)."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]

_MATRIX = np.array(
    [
        [65.481, 128.553, 24.966, 16 * 255],
        [-37.797, -74.203, 112.0, 128 * 255],
        [112.0, -93.786, -18.214, 128 * 255],
    ],
    np.float32,
) / np.float32(255)


def to_planes(rgb: NDArray[np.uint8]) -> Planes:
    """Y ``(h, w)``, U and V ``(h/2, w/2)`` of an ``(h, w, 3)`` picture with even sides.

    Chroma is filtered before it is halved: 1-2-1 across (centred on the left sample of each pair), the mean
    of two rows down. OpenCV's own conversion takes one pixel of four, which flickers on a moving edge.
    """
    yuv = cv2.transform(rgb, _MATRIX)
    across = cv2.filter2D(yuv[:, :, 1:], -1, _ACROSS, borderType=cv2.BORDER_REPLICATE)[:, ::2]
    chroma = cv2.addWeighted(across[::2], 0.5, across[1::2], 0.5, 0)
    u, v = cv2.split(chroma)
    return np.ascontiguousarray(yuv[:, :, 0]), np.asarray(u, np.uint8), np.asarray(v, np.uint8)


_ACROSS = np.array([[0.25, 0.5, 0.25]], np.float32)


def pack(planes: Planes, out: NDArray[np.uint8] | None = None) -> NDArray[np.uint8]:
    """The three planes as one ``(h * 3 // 2, w)`` array, into ``out`` where given."""
    height, width = planes[0].shape
    if out is None:
        out = np.empty((height * 3 // 2, width), np.uint8)
    np.concatenate([plane.reshape(-1) for plane in planes], out=out.reshape(-1))
    return out


def half(affine: NDArray[np.float32]) -> NDArray[np.float32]:
    """The affine of luma pixels, for the chroma plane.

    A chroma sample (i, j) lies at luma (2i, 2j + 0.5): left-sited across, between two rows down.
    """
    out = np.array(affine, np.float64)
    at = np.array([0.0, 0.5])
    out[:, 2] = (affine[:, :2] @ at + affine[:, 2] - at) / 2
    return out.astype(np.float32)
