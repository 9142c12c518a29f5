"""What is seen between open lips: cavity, tongue, teeth, and the shadow of the lips on them.

All lengths are millimetres of the speaker's face. The upper teeth stay with the skull, the lower teeth and the
tongue move with the jaw.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.lips import LipContours, MouthAxes

_FINE = 3  # drawn at this many times the picture's resolution
# right edges of the teeth from the middle outwards, as seen from the front, and how far each edge is raised
_UPPER = ((8.4, 0.0), (14.6, 0.7), (20.0, 0.2), (24.0, 1.0), (27.0, 1.6))
_LOWER = ((5.2, 0.0), (10.4, 0.1), (15.6, 0.3), (19.6, 0.9), (22.6, 1.4))

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Light:
    """``left``, ``right``: brightness of the skin on either side, 1 for fair skin in good light.
    ``white``: RGB of something white in that light."""

    left: float
    right: float
    white: tuple[float, float, float]


def draw_inner(
    size: tuple[int, int],
    frame: MouthAxes,
    lips: LipContours,
    light: Light,
    teeth_line: float,
    rounded: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The inner mouth over a patch of ``size`` (width, height): RGB ``(h, w, 3)`` and coverage ``(h, w)`` 0..1.

    ``teeth_line``: y of the edges of the upper incisors. ``rounded``: 0..1; pushed forward, lips hide the teeth.
    """
    width, height = size
    picture = np.zeros((height, width, 3), np.float32)
    mask = np.zeros((height, width), np.float32)
    gap = float((lips.lower_inner - lips.upper_inner)[:, 1].max())
    if gap <= 0.05:
        return picture, mask
    curve = frame.to_pixels(_rounded(np.concatenate([lips.upper_inner, lips.lower_inner[9:0:-1]])))
    x0, y0 = np.maximum(np.floor(curve.min(0)).astype(int) - 2, 0)
    x1, y1 = np.minimum(np.ceil(curve.max(0)).astype(int) + 3, [width, height])
    if x1 <= x0 or y1 <= y0:
        return picture, mask
    fine = np.zeros(((y1 - y0) * _FINE, (x1 - x0) * _FINE), np.uint8)
    fixed = np.rint(((curve - [x0, y0] + 0.5) * _FINE - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(fine, [fixed], 255, cv2.LINE_8, 4)
    rows, columns = fine.shape
    px = (np.arange(columns) + 0.5) / _FINE - 0.5 + x0
    py = (np.arange(rows) + 0.5) / _FINE - 0.5 + y0
    grid = np.stack(np.meshgrid(px, py), -1).reshape(-1, 2)
    mm = frame.to_mm(grid).reshape(rows, columns, 2)
    edge = cv2.distanceTransform(fine, cv2.DIST_L2, 3) / (_FINE * frame.mm)
    colours = _colours(
        mm[:, :, 0], mm[:, :, 1], edge.astype(np.float64), lips, gap, light, teeth_line, rounded
    )
    small = (x1 - x0, y1 - y0)
    picture[y0:y1, x0:x1] = cv2.resize(colours.astype(np.float32), small, interpolation=cv2.INTER_AREA)
    mask[y0:y1, x0:x1] = cv2.resize(fine.astype(np.float32) / 255, small, interpolation=cv2.INTER_AREA)
    return picture, mask


def _colours(
    x: Array,
    y: Array,
    edge: Array,
    lips: LipContours,
    gap: float,
    light: Light,
    teeth_line: float,
    rounded: float,
) -> Array:
    centre = float(lips.upper_inner[5, 0])
    x = x - centre
    across = lips.upper_inner[:, 0] - centre
    top = np.interp(x, across, lips.upper_inner[:, 1])
    bottom_middle = float(lips.lower_inner[5, 1])
    floor = np.interp(x, across, lips.lower_inner[:, 1])
    deep = np.clip((y - top) / np.maximum(floor - top, 0.5), 0, 1)[:, :, None]
    out = np.array([46.0, 16, 15]) * (1 - deep) + np.array([94.0, 37, 34]) * deep
    # tongue: a low dome behind the lower teeth, lit from the front
    crown = bottom_middle - 1.5 - 0.24 * gap
    dome = 1 - (x / 19.5) ** 2 - ((y - crown - 8.0) / 8.0) ** 2
    tongue = (np.clip(dome * 5, 0, 1) * _step(gap, 1.8, 5.0) * (1 - 0.7 * rounded))[:, :, None]
    relief = 0.60 + 0.40 * np.clip((y - crown) / 5.0, 0, 1) ** 0.7 - 0.12 * np.exp(-((x / 1.6) ** 2))
    out = out * (1 - tongue) + np.array([184.0, 94, 90]) * relief[:, :, None] * tongue
    lower = _teeth(x, y - (bottom_middle - 1.1 - 0.05 * gap), _LOWER, up=False)
    bare = 1 - _step(rounded, 0.0, 0.32)
    lower[..., 1] *= _step(gap, 3.5, 7.0) * bare
    white = np.array(light.white)
    out = out * (1 - lower[..., 1:]) + white * np.array([0.70, 0.65, 0.58]) * lower[..., :1] * lower[..., 1:]
    upper = _teeth(x, y - teeth_line, _UPPER, up=True)
    # a mere slit shows a shadow rather than teeth
    upper[..., 1] *= (0.25 + 0.75 * _step(gap, 0.8, 2.6)) * bare
    out = out * (1 - upper[..., 1:]) + white * np.array([0.93, 0.885, 0.81]) * upper[..., :1] * upper[..., 1:]
    # shadow: of the upper lip, towards the corners, and of the lips all around
    shade = 0.74 + 0.26 * _step(y - top, 0.0, 2.6)
    shade *= 0.66 + 0.34 * _step(edge, 0.0, 1.3)
    shade *= 0.84 + 0.16 * _step(gap, 1.0, 6.0)
    side = np.clip(x / 50 + 0.5, 0, 1)
    shade *= light.left * (1 - side) + light.right * side
    shade = np.clip(shade, 0.0, 1.1)[:, :, None]
    result: Array = out * np.concatenate([shade, shade**1.22, shade**1.30], 2)  # the mouth's own light is red
    return result


def _teeth(x: Array, y: Array, row: tuple[tuple[float, float], ...], *, up: bool) -> Array:
    """Brightness and coverage ``(h, w, 2)`` of a row of teeth whose middle edges lie at y = 0."""
    away = np.abs(x)
    shine = np.zeros_like(x)
    cover = np.zeros_like(x)
    start = 0.0
    sign = 1.0 if up else -1.0
    for end, raised in row:
        half = (end - start) / 2
        t = (away - start - half) / half
        inside = (away >= start) & (away < end)
        rim = raised + 0.55 * np.abs(t) ** 5 + (0.5 * np.abs(t) if raised == 0.2 and up else 0.0)
        body = np.clip((-sign * y - rim) * 2.5 + 0.5, 0, 1)
        round_ = 1 - 0.13 * t**2 - 0.16 * _step(np.abs(t), 0.88, 1.0)
        glint = 0.07 * np.exp(-(((t + 0.25) / 0.3) ** 2))
        tip = 1 - 0.10 * np.exp(-np.maximum(-sign * y - rim, 0) / 0.8)
        shine = np.where(inside, (round_ + glint) * tip, shine)
        cover = np.where(inside, body, cover)
        start = end
    arch = 1 - 0.62 * np.clip(away / row[-1][0], 0, 1) ** 1.7
    return np.stack([shine * arch, cover], -1)


def _step(value: Array | float, low: float, high: float) -> Array:
    t = np.clip((np.asarray(value, np.float64) - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _rounded(ring: Array) -> Array:
    """A closed Catmull-Rom curve through the ring's points."""
    p0, p1, p2, p3 = (np.roll(ring, s, 0)[:, None] for s in (1, 0, -1, -2))
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return curve.reshape(-1, 2)
