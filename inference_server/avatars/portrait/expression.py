"""Gaze and brows of one picture: eyes that turn under still lids, brows that rise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.framing import EYES
from inference_server.avatars.portrait.region import millimetre

_EYE_MM = 12.0  # radius of an eyeball
_BROWS = ((46, 53, 52, 65, 55, 70, 63, 105, 66, 107), (276, 283, 282, 295, 285, 300, 293, 334, 296, 336))
_BROW_MM = (13.0, 6.5)  # how far around a brow the skin goes with it, across and down


class Expression:
    """Moves eyes and brows over the part of a picture that shows them."""

    def __init__(self, points: NDArray[np.float32], width: int, height: int) -> None:
        self._mm = millimetre(points)
        self._face = float(np.linalg.norm(points[10, :2] - points[152, :2]))
        brows = [points[list(side), :2] for side in _BROWS]
        rings = [points[list(side), :2] for side in EYES]
        around = np.concatenate([*brows, *rings])
        pad = 2.5 * _BROW_MM[0] * self._mm
        low, high = np.floor(around.min(0) - pad).astype(int), np.ceil(around.max(0) + pad).astype(int)
        x0, y0 = np.maximum(low, 0)
        x1, y1 = np.minimum(high, [width, height])
        self._slices = (slice(y0, y1), slice(x0, x1))
        x, y = np.meshgrid(np.arange(x1 - x0, dtype=np.float32), np.arange(y1 - y0, dtype=np.float32))
        self._x, self._y = x, y
        self._eyes = self._inside([ring - [x0, y0] for ring in rings])
        self._brows = self._near([brow - [x0, y0] for brow in brows], [ring - [x0, y0] for ring in rings])

    def draw(self, rgb: NDArray[np.uint8], gaze: NDArray[np.float64], brows: float) -> None:
        """Turn the picture's eyes by ``gaze`` (degrees right and down) and lift its ``brows`` (face heights)."""
        if not np.any(gaze) and not brows:
            return
        right, down = _EYE_MM * self._mm * np.sin(np.radians(gaze))
        mx = self._x - np.float32(right) * self._eyes
        my = self._y - np.float32(down) * self._eyes + np.float32(brows * self._face) * self._brows
        part = np.ascontiguousarray(rgb[self._slices])
        rgb[self._slices] = cv2.remap(part, mx, my, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)

    def _inside(self, rings: list[NDArray[np.float32]]) -> NDArray[np.float32]:
        """1 in the middle of the eyes, 0 at their lids."""
        out = np.zeros(self._x.shape, np.float32)
        for ring in rings:
            cv2.fillPoly(out, [np.rint(ring * 16).astype(np.int32)], 1.0, cv2.LINE_AA, 4)
        depth = cv2.distanceTransform((out > 0.5).astype(np.uint8), cv2.DIST_L2, 3)
        t = np.clip(depth / (2.6 * self._mm), 0, 1)
        return np.asarray(t * t * (3 - 2 * t), np.float32)

    def _near(
        self, brows: list[NDArray[np.float32]], rings: list[NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        """1 at the brows, falling off around them, 0 at the eyes."""
        out = np.zeros(self._x.shape, np.float32)
        for brow in brows:
            for px, py in brow:
                away = ((self._x - px) / (_BROW_MM[0] * self._mm)) ** 2
                away += ((self._y - py) / (_BROW_MM[1] * self._mm)) ** 2
                out = np.maximum(out, np.exp(-away))
        for ring in rings:  # lids stay where they are
            centre, half = ring.mean(0), np.ptp(ring, 0) / 2
            away = ((self._x - centre[0]) / (1.1 * half[0])) ** 2 + (
                (self._y - centre[1]) / (1.5 * half[1])
            ) ** 2
            out *= np.clip(away - 0.6, 0, 1)
        return np.asarray(cv2.GaussianBlur(out, (0, 0), 1.2 * self._mm), np.float32)
