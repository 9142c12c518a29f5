"""Lips warped from one picture: the step that every mouth begins with, and closing a smile."""

from __future__ import annotations

import cv2
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
_LINE_MM = 1.6  # how far from the line between the lips its darkness reaches
_ENDS = 1.35  # half widths of the mouth: there the line has ended for certain


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
        self._fade = fade(w, h)
        self._border = np.array(
            [[px, py] for px in np.linspace(0, w - 1, 6) for py in (0, h - 1)]
            + [[px, py] for px in (0, w - 1) for py in np.linspace(0, h - 1, 6)[1:-1]]
        )

    def without_ends(self, inner: float) -> NDArray[np.uint8]:
        """The patch without the dark ends of the line between the lips, from ``inner`` half widths off the middle
        on: where the corners move inwards they would stay beside the mouth as whiskers."""
        frame, mouth = self.mouth.frame, self.mouth
        h, w = self.patch.shape[:2]
        grid = np.stack(np.meshgrid(np.arange(w), np.arange(h)), -1).reshape(-1, 2).astype(np.float64)
        x, y = (v.reshape(h, w) for v in frame.to_mm(grid).T)
        u = (x - mouth.centre) / mouth.half_width
        away = y - np.interp(x, mouth.line[:, 0], mouth.line[:, 1])
        along = np.clip((np.abs(u) - inner) / 0.12, 0, 1) * np.clip((_ENDS - np.abs(u)) / 0.15, 0, 1)
        mask = (along * np.exp(-((away / _LINE_MM) ** 2)))[:, :, None]
        side = max(3, round(2.6 * _LINE_MM * frame.mm) | 1)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
        filled = cv2.GaussianBlur(cv2.morphologyEx(self.patch, cv2.MORPH_CLOSE, disc), (0, 0), 0.2 * side)
        mixed = self.patch + mask * (np.maximum(filled, self.patch).astype(np.float64) - self.patch)
        return np.asarray(np.rint(mixed), np.uint8)

    def skin(
        self, lips: LipContours, patch: NDArray[np.uint8] | None = None, dark: float = 1.0
    ) -> NDArray[np.uint8]:
        """The region with the lips there, drawn from ``patch`` where it is not the picture's own; between open
        lips it shows nothing of use. ``dark``: how dark the line is where they touch, 1 as of closed lips."""
        source = self.patch if patch is None else patch
        upper_target, upper_source, lower_target, lower_source = self.mouth.knots(lips)
        fade = self._fade[:, :, None]
        upper = self._warp.apply(source, self._field(upper_target, upper_source) * fade)
        lower = self._warp.apply(source, self._field(lower_target, lower_source) * fade)
        below, line = self._split(lips)
        mixed = upper + (lower.astype(np.float32) - upper) * below[:, :, None]
        shown = mixed * (1 - dark * (1 - line))
        return np.asarray(np.clip(np.rint(shown), 0, 255), np.uint8)

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


def fade(width: int, height: int) -> NDArray[np.float32]:
    """0 on the border, 1 from an eighth of the side inwards, smooth between."""

    def ramp(n: int) -> NDArray[np.float64]:
        distance = np.minimum(np.arange(n), np.arange(n)[::-1])
        t = np.clip((distance - 1) / (n / 8), 0, 1)
        return t * t * (3 - 2 * t)

    return np.outer(ramp(height), ramp(width)).astype(np.float32)
