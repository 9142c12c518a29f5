"""Lips warped from one picture: the step that every mouth begins with, and closing a smile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.folds import softened
from inference_server.avatars.portrait.lips import LipContours, MouthWarp, Points
from inference_server.avatars.portrait.region import mouth_region
from inference_server.avatars.portrait.warp import Warp
from visavis.frames import Rect

OPEN_MM = 1.5
"""Lips further apart than this in the picture are closed first."""
FOLDS = 0.75
"""How much of the folds beside an open smile goes with it."""


class LipWarp:
    """Moves lips, jaw and the skin around them over the mouth region of one portrait."""

    def __init__(self, rgb: NDArray[np.uint8], points: NDArray[np.float32], region: Rect) -> None:
        x, y, w, h = region
        self.patch = np.ascontiguousarray(rgb[y : y + h, x : x + w])
        self.size = (w, h)
        self.points = points.astype(np.float32).copy()
        self.points[:, :2] -= [x, y]
        self.mouth = MouthWarp(self.points)
        high, low = self.patch.max(2).astype(np.float32), self.patch.min(2)
        self.colour = float(np.clip(np.median((high - low) / np.maximum(high, 1)) / 0.22, 0, 1))
        """0 in a black-and-white picture, whose mouth has no colour either."""
        self._warp = Warp(w, h)
        self._fade = _fade(w, h)
        self._border = np.array(
            [[px, py] for px in np.linspace(0, w - 1, 6) for py in (0, h - 1)]
            + [[px, py] for px in (0, w - 1) for py in np.linspace(0, h - 1, 6)[1:-1]]
        )

    def skin(self, lips: LipContours) -> NDArray[np.uint8]:
        """The region with the lips there; between open lips it shows nothing of use."""
        upper_target, upper_source, lower_target, lower_source = self.mouth.knots(lips)
        fade = self._fade[:, :, None]
        upper = self._warp.apply(self.patch, self._field(upper_target, upper_source) * fade)
        lower = self._warp.apply(self.patch, self._field(lower_target, lower_source) * fade)
        below, line = self._split(lips)
        mixed = upper + (lower.astype(np.float32) - upper) * below[:, :, None]
        return np.clip(np.rint(mixed * line), 0, 255).astype(np.uint8)

    def _field(self, target: Points, source: Points) -> NDArray[np.float32]:
        to_pixels = self.mouth.frame.to_pixels
        return self._warp.field(
            np.concatenate([to_pixels(target), self._border]),
            np.concatenate([to_pixels(source), self._border]),
            stiffness=0.3,
        )

    def _split(self, lips: LipContours) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """``(h, w)`` 0 above the line between the lips and 1 below it, with a soft edge beyond the corners;
        ``(h, w, 3)`` the shade of that line where the lips touch."""
        frame = self.mouth.frame
        middle = frame.to_pixels((lips.upper_inner + lips.lower_inner) / 2)
        w, h = self.size
        xs = np.arange(w, dtype=np.float64)
        line = np.interp(xs, middle[:, 0], middle[:, 1])
        beyond = np.maximum(np.maximum(middle[0, 0] - xs, xs - middle[-1, 0]), 0)
        away = np.arange(h)[:, None] - line[None]
        below = 0.5 + 0.5 * np.clip(away / (0.6 + 0.9 * beyond)[None], -1, 1)
        gap = np.interp(xs, middle[:, 0], (lips.lower_inner - lips.upper_inner)[:, 1])
        u = np.clip((xs - middle[0, 0]) / max(middle[-1, 0] - middle[0, 0], 1), 0, 1)
        touch = np.clip(1 - gap / 0.8, 0, 1) * np.clip(6 * np.minimum(u, 1 - u), 0, 1) ** 0.5
        near = touch[None] * np.exp(-((away / max(0.75 * frame.mm, 0.8)) ** 2))
        red = np.array([0.46, 0.58, 0.56])
        shade = 1 - near[:, :, None] * (red.mean() + self.colour * (red - red.mean()))
        return below.astype(np.float32), shade.astype(np.float32)


def close_lips(rgb: NDArray[np.uint8], points: NDArray[np.float32], area: Rect) -> NDArray[np.uint8]:
    """The picture with its lips together and the folds of its smile softened; the same array where the lips
    already touch."""
    region = mouth_region(points, area)
    gap = MouthWarp(points).gap
    if gap < OPEN_MM:
        return rgb
    out = softened(rgb, points, FOLDS * min((gap - OPEN_MM) / 3, 1.0))
    warp = LipWarp(out, points, region)
    x, y, w, h = region
    out[y : y + h, x : x + w] = warp.skin(warp.mouth.closed())
    return out


def _fade(width: int, height: int) -> NDArray[np.float32]:
    """0 on the border, 1 from an eighth of the side inwards, smooth between."""

    def ramp(n: int) -> NDArray[np.float64]:
        distance = np.minimum(np.arange(n), np.arange(n)[::-1])
        t = np.clip((distance - 1) / (n / 8), 0, 1)
        return t * t * (3 - 2 * t)

    return np.outer(ramp(height), ramp(width)).astype(np.float32)
