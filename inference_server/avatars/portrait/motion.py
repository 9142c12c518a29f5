"""How a head at rest moves: a few slow, small movements that all begin and end in the same pose.

The loop is cut into segments. At every cut the head is exactly in the pose of the reference and stands still,
so that any segment may follow any other: these cuts are the loop's jump points.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import cv2
import numpy as np
from numpy.typing import NDArray

from visavis.frames import Rect

SECONDS = 5.0
_CELL = 8  # pixels of the coarse grid on which displacements are computed
_SHARES = (0.36, 0.26, 0.38)  # of the loop, one per segment
# per segment: peak of x, y (face heights), roll, yaw, pitch (radians), and where the peak lies in it
_MOVES = (
    (0.0060, 0.0020, 0.010, 0.030, 0.010, 0.45),
    (-0.0015, 0.0055, -0.003, -0.008, -0.022, 0.50),
    (-0.0065, 0.0030, -0.012, -0.034, 0.006, 0.40),
)
_BLINKS = ((0.13, 1.0), (0.66, 1.0))  # start as a share of the loop, depth
_BLINK_SHAPE = ((0.0, 0.0), (0.045, 0.42), (0.09, 1.0), (0.13, 1.0), (0.2, 0.6), (0.27, 0.2), (0.34, 0.0))


@dataclass(frozen=True)
class Poses:
    """``moves``: ``(n, 5)`` x, y, roll, yaw, pitch; ``lids``: ``(n,)`` 0 open to 1 closed; ``cuts``: frames
    in the pose of the reference."""

    moves: NDArray[np.float64]
    lids: NDArray[np.float64]
    cuts: tuple[int, ...]

    @property
    def jumps(self) -> tuple[tuple[int, int], ...]:
        """(last frame of a segment, first frame of another one)."""
        n = len(self.moves)
        ends = [(cut - 1) % n for cut in self.cuts]
        return tuple((end, cut) for end in ends for cut in self.cuts if (end + 1) % n != cut)


def loop_length(fps: Fraction) -> int:
    """Frames of a loop of about five seconds; even, at least 8."""
    return max(8, 2 * int(SECONDS * fps / 2 + Fraction(1, 2)))


def poses(fps: Fraction) -> Poses:
    """The pose of every frame of the loop."""
    n = loop_length(fps)
    cuts = [0]
    for share in _SHARES[:-1]:
        cuts.append(cuts[-1] + round(share * n))
    moves = np.zeros((n, 5))
    for start, end, move in zip(cuts, [*cuts[1:], n], _MOVES, strict=True):
        t = np.arange(end - start) / (end - start)
        moves[start:end] = np.outer(_swell(t, move[5]), move[:5])
    seconds = np.arange(n) / float(fps)
    times, values = np.array(_BLINK_SHAPE).T
    lids = np.zeros(n)
    for share, depth in _BLINKS:
        lids = np.maximum(lids, depth * np.interp(seconds - share * n / float(fps), times, values, 0, 0))
    return Poses(moves, lids, tuple(cuts))


def _swell(t: NDArray[np.float64], peak: float) -> NDArray[np.float64]:
    """0 to 1 at ``peak`` and back to 0, still at all three (a quintic each way)."""
    s = np.where(t < peak, t / peak, (1 - t) / (1 - peak))
    out: NDArray[np.float64] = s**3 * (10 - 15 * s + 6 * s**2)
    return out


class HeadMotion:
    """Displacement of the picture for a pose of the head.

    Around the mouth the displacement is exactly affine, so that a mouth drawn once can follow; towards the
    shoulders and the background it fades out.
    """

    def __init__(self, points: NDArray[np.float32], area: Rect, mouth: Rect) -> None:
        self._area = area
        columns, rows = -(-area.width // _CELL), -(-area.height // _CELL)
        self._grid = (columns, rows)
        x = area.x + (np.arange(columns) + 0.5) * _CELL - 0.5
        y = area.y + (np.arange(rows) + 0.5) * _CELL - 0.5
        gx, gy = np.meshgrid(x, y)
        self._face = float(np.linalg.norm(points[10, :2] - points[152, :2]))
        self._centre = points[:, :2].mean(0)
        self._weight = _head_weight(gx, gy, points, mouth, self._face)
        depth, slope = _depth(gx, gy, points, mouth, self._face)
        self._depth = depth
        self._slope = slope  # depth = slope[0] * x + slope[1] * y + slope[2] around the mouth
        self._gx, self._gy = gx, gy

    def affine(self, move: NDArray[np.float64]) -> NDArray[np.float32]:
        """Where a point around the mouth goes, ``(2, 3)``."""
        return self._forward(move)[0]

    def maps(self, move: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """For every pixel of the area, the x and the y of the reference (in the area) that is seen there."""
        affine, yaw, pitch = self._forward(move)
        inverse = cv2.invertAffineTransform(affine)
        # what parallax adds where the depth is not the mouth's plane
        relief = self._depth - (self._slope[0] * self._gx + self._slope[1] * self._gy + self._slope[2])
        dx = inverse[0, 0] * self._gx + inverse[0, 1] * self._gy + inverse[0, 2] - self._gx - yaw * relief
        dy = inverse[1, 0] * self._gx + inverse[1, 1] * self._gy + inverse[1, 2] - self._gy - pitch * relief
        size = (self._grid[0] * _CELL, self._grid[1] * _CELL)
        area = self._area
        maps = []
        for delta in (dx * self._weight, dy * self._weight):
            full = cv2.resize(_edges(delta.astype(np.float32)), (size[0] + 2 * _CELL, size[1] + 2 * _CELL))
            maps.append(full[_CELL : _CELL + area.height, _CELL : _CELL + area.width])
        across, down = np.arange(area.width, dtype=np.float32), np.arange(area.height, dtype=np.float32)
        return (maps[0] + across).astype(np.float32), (maps[1] + down[:, None]).astype(np.float32)

    def _forward(self, move: NDArray[np.float64]) -> tuple[NDArray[np.float32], float, float]:
        x, y, roll, yaw, pitch = (float(v) for v in move)
        cx, cy = (float(v) for v in self._centre)
        pivot = cy + 0.75 * self._face  # the head nods and tilts about the neck
        sx, sy, s0 = (float(v) for v in self._slope)
        linear = np.array([[1 + yaw * sx, yaw * sy - roll], [roll + pitch * sx, 1 + pitch * sy]])
        shift = np.array([x * self._face + yaw * s0 + roll * pivot, y * self._face + pitch * s0 - roll * cx])
        return np.hstack([linear, shift[:, None]]).astype(np.float32), yaw, pitch


def half_maps(
    mx: NDArray[np.float32], my: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The same displacement for chroma planes, whose samples lie left across and between two rows down."""
    hx = mx[::2, ::2] / 2
    hy = ((my[::2, ::2] + my[1::2, ::2]) / 2 - 0.5) / 2
    return hx.astype(np.float32), hy.astype(np.float32)


def _edges(grid: NDArray[np.float32]) -> NDArray[np.float32]:
    """One more cell all around, continued linearly: resizing then keeps an affine field affine to its edge."""
    wide = np.pad(grid, 1, mode="reflect", reflect_type="odd")
    return np.ascontiguousarray(wide)


def _smooth(t: NDArray[np.float64]) -> NDArray[np.float64]:
    t = np.clip(t, 0, 1)
    return t * t * t * (10 - 15 * t + 6 * t * t)


def _outside(
    gx: NDArray[np.float64], gy: NDArray[np.float64], rect: tuple[float, ...]
) -> NDArray[np.float64]:
    """Distance to a rectangle (left, top, right, bottom), 0 inside."""
    dx = np.maximum(np.maximum(rect[0] - gx, gx - rect[2]), 0)
    dy = np.maximum(np.maximum(rect[1] - gy, gy - rect[3]), 0)
    return np.hypot(dx, dy)


def _head_weight(
    gx: NDArray[np.float64],
    gy: NDArray[np.float64],
    points: NDArray[np.float32],
    mouth: Rect,
    face: float,
) -> NDArray[np.float64]:
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    pad = _CELL * 2
    head = (
        min(low[0] - 0.1 * face, mouth.x - pad),
        min(low[1] - 0.25 * face, mouth.y - pad),
        max(high[0] + 0.1 * face, mouth.x + mouth.width + pad),
        max(high[1], mouth.y + mouth.height + pad),
    )
    return 1 - _smooth(_outside(gx, gy, tuple(float(v) for v in head)) / (0.75 * face))


def _depth(
    gx: NDArray[np.float64],
    gy: NDArray[np.float64],
    points: NDArray[np.float32],
    mouth: Rect,
    face: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Height of the head's relief towards the camera in pixels, and the plane it is around the mouth."""
    cx, cy = points[:, :2].mean(0)
    z = -points[:, 2] + np.median(points[:, 2])
    flat = np.maximum(((gx[:, :, None] - points[:, 0]) ** 2 + (gy[:, :, None] - points[:, 1]) ** 2), 0)
    weight = np.exp(-flat / (2 * (0.07 * face) ** 2)) + 1e-12
    relief = (weight * z).sum(-1) / weight.sum(-1)
    # hair and neck fall away behind the face
    away = _smooth((np.hypot((gx - cx) / 0.75, gy - cy) / face - 0.45) / 0.5)
    relief = relief * (1 - away) + away * np.percentile(z, 5)
    near = _outside(gx, gy, (mouth.x, mouth.y, mouth.x + mouth.width, mouth.y + mouth.height))
    inside = near == 0
    if inside.sum() < 6:
        inside = near < 3 * _CELL
    columns = np.stack([gx[inside], gy[inside], np.ones(int(inside.sum()))], 1)
    slope = np.linalg.lstsq(columns, relief[inside], rcond=None)[0]
    plane = slope[0] * gx + slope[1] * gy + slope[2]
    blend = _smooth((near - 2 * _CELL) / (0.25 * face))
    return plane * (1 - blend) + relief * blend, slope
