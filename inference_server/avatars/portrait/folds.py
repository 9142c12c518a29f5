"""The folds that a smile draws from the nose past the mouth, softened: they would stay while the mouth speaks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.region import millimetre

_PATHS = (
    (126, 142, 206, 216, 212, 202, 210),
    (355, 371, 426, 436, 432, 422, 430),
)
"""Points of the mesh along each fold, from the nose downwards."""
_WIDE = 13.0  # millimetres across that are looked at
_VALLEY = 11.0  # millimetres: what is dark over less than this is a fold, over more a shadow
_GREY = 0.05  # skin with less colour than this is that of a black-and-white picture
_FINE = 0.7  # millimetres: texture finer than this is kept


def softened(rgb: NDArray[np.uint8], points: NDArray[np.float32], share: float) -> NDArray[np.uint8]:
    """The picture with a ``share`` 0..1 of the folds' depth filled; hair, less colourful than skin, is spared
    where there is colour."""
    mm = millimetre(points)
    paths = [points[list(path), :2] for path in _PATHS]
    low = np.min([path.min(0) for path in paths], 0) - 2 * _WIDE * mm
    high = np.max([path.max(0) for path in paths], 0) + 2 * _WIDE * mm
    x0, y0 = np.maximum(low.astype(int), 0)
    x1, y1 = np.minimum(high.astype(int), [rgb.shape[1], rgb.shape[0]])
    part = rgb[y0:y1, x0:x1].astype(np.float32)
    band = np.zeros(part.shape[:2], np.float32)
    for path in paths:
        line = np.rint(path - [x0, y0]).astype(np.int32)
        cv2.polylines(band, [line], False, 1.0, max(1, round(_WIDE * mm)), cv2.LINE_AA)
    mask = np.asarray(cv2.GaussianBlur(band, (0, 0), 0.22 * _WIDE * mm), np.float32)
    smooth = cv2.GaussianBlur(part, (0, 0), max(_FINE * mm, 0.5))
    side = max(3, round(_VALLEY * mm) | 1)
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    filled = cv2.GaussianBlur(cv2.morphologyEx(smooth, cv2.MORPH_CLOSE, disc), (0, 0), 0.15 * side)
    colour = 1 - smooth.min(2) / np.maximum(smooth.max(2), 1)
    beside = filled[mask > 0.5]
    skin = float(np.median(1 - beside.min(1) / np.maximum(beside.max(1), 1))) if len(beside) else 1.0
    like_skin = np.clip((colour / skin - 0.6) / 0.3, 0, 1) if skin > _GREY else 1.0
    weight = np.asarray(share * mask * like_skin, np.float32)[:, :, None]
    out = rgb.copy()
    out[y0:y1, x0:x1] = np.clip(np.rint(part + weight * np.maximum(filled - smooth, 0)), 0, 255)
    return out
