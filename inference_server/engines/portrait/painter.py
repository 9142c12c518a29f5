"""One mouth pose as a picture: lips and jaw warped from the portrait, the inner mouth drawn between them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.closing import LipWarp
from inference_server.avatars.portrait.lips import Pose
from inference_server.engines.portrait.inner import Light, draw_inner
from visavis.frames import Rect

_ROUNDED, _OUTSIDE = 0.62, 1.0
"""Half widths of the mouth from where on its line is left out: of rounded lips, of firm ones."""


class Painter:
    """Paints poses over the mouth region of one portrait."""

    def __init__(self, rgb: NDArray[np.uint8], points: NDArray[np.float32], region: Rect) -> None:
        self._lips = LipWarp(rgb, points, region)
        self.patch = self._lips.patch
        self.mouth = self._lips.mouth
        self._bare = {inner: self._lips.without_ends(inner) for inner in (_ROUNDED, _OUTSIDE)}
        self.light = _light(self.patch, self._lips.points)
        self.teeth_line = float(self.mouth.line[5, 1]) + 1.6 + 1.2 * self.mouth.broad

    def paint(self, pose: Pose) -> NDArray[np.uint8]:
        """The region ``(height, width, 3)`` RGB in a pose; its outermost pixels never change."""
        if pose == Pose():
            return self.patch
        lips = self.mouth.lips(pose)
        rounded = max(-pose.width, 0.0)
        source = self._source(rounded, max(pose.press, pose.fv))
        skin = self._lips.skin(lips, source, 1 - 0.85 * min(1.0, 1.5 * rounded) * (1 - pose.press))
        inner, mask = draw_inner(
            self._lips.size, self.mouth.frame, lips, self.light, self.teeth_line, rounded
        )
        weight = cv2.GaussianBlur(mask, (0, 0), 0.6)[:, :, None]
        colour = self._lips.colour
        inner = inner.mean(2, keepdims=True) * (1 - colour) + inner * colour
        mixed = skin * (1 - weight) + inner * weight
        return np.asarray(np.clip(np.rint(mixed), 0, 255), np.uint8)

    def _source(self, rounded: float, firm: float) -> NDArray[np.uint8]:
        """What the lips are drawn from: the picture, with as much of its mouth's line as the pose has."""
        out = self.patch.astype(np.float32)
        for inner, share in ((_OUTSIDE, firm), (_ROUNDED, min(1.0, 1.5 * rounded))):
            out += share * (self._bare[inner].astype(np.float32) - out)
        return np.asarray(np.rint(out), np.uint8)


def _light(patch: NDArray[np.uint8], points: NDArray[np.float32]) -> Light:
    """How bright each side of the face is, and what white would look like there."""
    h, w = patch.shape[:2]

    def tone(indices: tuple[int, ...]) -> NDArray[np.float64]:
        at = np.clip(points[list(indices), :2].astype(int), 0, [w - 1, h - 1])
        return np.asarray(np.median(patch[at[:, 1], at[:, 0]].astype(np.float64), 0))

    sides = tone((205, 187, 207, 203, 206)), tone((425, 411, 427, 423, 426))
    # teeth are as bright as fair skin and much brighter than dark skin: the lightness grows less than the skin's
    levels = [float(np.clip((side.max() / 215.0) ** 0.6, 0.45, 1.06)) for side in sides]
    mean = (sides[0] + sides[1]) / 2
    cast = mean / mean.max() / np.array([1.0, 0.80, 0.70])  # against a middling skin in neutral light
    cast[1] = min(cast[1], max(cast[0], cast[2]))  # no light is green: such skin is sallow, its teeth are not
    white = 232.0 * np.clip(cast / cast.max(), 0.78, 1.0) ** 0.5
    return Light(levels[0], levels[1], (float(white[0]), float(white[1]), float(white[2])))
