"""One mouth pose as a picture: lips and jaw warped from the portrait, the inner mouth drawn between them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.warp import Warp
from inference_server.engines.portrait.inner import draw_inner
from inference_server.engines.portrait.shape import Lips, Mouth, Pose
from visavis.frames import Rect


class Painter:
    """Paints poses over the mouth region of one portrait."""

    def __init__(self, rgb: NDArray[np.uint8], points: NDArray[np.float32], region: Rect) -> None:
        x, y, w, h = region
        self.patch = np.ascontiguousarray(rgb[y : y + h, x : x + w])
        self.region = region
        local = points.astype(np.float32).copy()
        local[:, :2] -= [x, y]
        self.mouth = Mouth(local)
        self._warp = Warp(w, h)
        self._fade = _fade(w, h)
        border = np.array(
            [[px, py] for px in np.linspace(0, w - 1, 6) for py in (0, h - 1)]
            + [[px, py] for px in (0, w - 1) for py in np.linspace(0, h - 1, 6)[1:-1]]
        )
        self._border = border
        cheeks = local[[205, 425, 50, 280, 187, 411], :2].astype(int)
        tones = [self.patch[np.clip(py, 0, h - 1), np.clip(px, 0, w - 1)] for px, py in cheeks]
        self.exposure = float(np.clip(np.median(np.array(tones).max(1)) / 215.0, 0.3, 1.05))
        self.teeth_line = float(self.mouth.line[5, 1]) + 0.6

    def paint(self, pose: Pose) -> NDArray[np.uint8]:
        """The region ``(height, width, 3)`` RGB in a pose; its outermost pixels never change."""
        if pose == Pose():
            return self.patch
        lips = self.mouth.lips(pose)
        upper_target, upper_source, lower_target, lower_source = self.mouth.knots(lips)
        upper = self._field(upper_target, upper_source)
        lower = self._field(lower_target, lower_source)
        split = self._split(lips)[:, :, None]
        field = (upper * (1 - split) + lower * split) * self._fade[:, :, None]
        skin = self._warp.apply(self.patch, field)
        inner, mask = draw_inner(
            (self.region.width, self.region.height), self.mouth.frame, lips, self.exposure, self.teeth_line
        )
        weight = cv2.GaussianBlur(mask, (0, 0), 0.6)[:, :, None]
        mixed = skin * (1 - weight) + inner * weight
        return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)

    def _field(self, target: NDArray[np.float64], source: NDArray[np.float64]) -> NDArray[np.float32]:
        to_pixels = self.mouth.frame.to_pixels
        return self._warp.field(
            np.concatenate([to_pixels(target), self._border]),
            np.concatenate([to_pixels(source), self._border]),
            stiffness=0.3,
        )

    def _split(self, lips: Lips) -> NDArray[np.float32]:
        """0 where the upper lip's field rules, 1 where the lower's; beyond the corners they flow together."""
        frame = self.mouth.frame
        middle = frame.to_pixels((lips.upper_inner + lips.lower_inner) / 2)
        w, h = self.region.width, self.region.height
        xs = np.arange(w, dtype=np.float64)
        line = np.interp(xs, middle[:, 0], middle[:, 1])
        beyond = np.maximum(np.maximum(middle[0, 0] - xs, xs - middle[-1, 0]), 0)
        soft = 0.6 + 0.9 * beyond + 0.0 * xs
        split = (np.arange(h)[:, None] - line[None]) / soft[None]
        return np.asarray(0.5 + 0.5 * np.clip(split, -1, 1), np.float32)


def _fade(width: int, height: int) -> NDArray[np.float32]:
    """0 on the border, 1 from an eighth of the side inwards, smooth between."""

    def ramp(n: int) -> NDArray[np.float64]:
        distance = np.minimum(np.arange(n), np.arange(n)[::-1])
        t = np.clip((distance - 1) / (n / 8), 0, 1)
        out: NDArray[np.float64] = t * t * (3 - 2 * t)
        return out

    return np.outer(ramp(height), ramp(width)).astype(np.float32)
