"""What is seen between open lips: cavity, tongue, teeth, and the shadow of the lips on them."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.engines.portrait.shape import Frame, Lips

_FINE = 3  # drawn at this many times the picture's resolution


def draw_inner(
    size: tuple[int, int], frame: Frame, lips: Lips, exposure: float, teeth_line: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The inner mouth over a patch of ``size`` (width, height): RGB ``(h, w, 3)`` and coverage ``(h, w)`` 0..1.

    ``exposure``: brightness of the skin around, 1 for fair skin in good light. ``teeth_line``: y in millimetres
    of the upper incisors' edges, which stay with the skull.
    """
    width, height = size
    ring = np.concatenate([lips.upper_inner, lips.lower_inner[::-1]])
    curve = frame.to_pixels(_rounded(ring))
    mask = _filled(curve, size)
    gap = float((lips.lower_inner - lips.upper_inner)[:, 1].max())
    if gap <= 0.05 or mask.max() <= 0:
        return np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32)
    gx, gy = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    mm = frame.to_mm(np.stack([gx.ravel(), gy.ravel()], 1)).reshape(height, width, 2)
    x, y = mm[:, :, 0], mm[:, :, 1]
    top = np.interp(x, lips.upper_inner[:, 0], lips.upper_inner[:, 1])
    bottom = np.interp(x, lips.lower_inner[:, 0], lips.lower_inner[:, 1])
    deep = np.clip((y - top) / np.maximum(bottom - top, 0.5), 0, 1)[:, :, None]
    picture = np.array([70.0, 26, 24]) * (1 - deep) * 0.5 + np.array([96.0, 42, 40]) * deep
    tongue = np.clip(1 - ((x / 17) ** 2 + ((y - (5.0 + 1.0 * lips.jaw)) / 7.5) ** 2), 0, 1)[:, :, None] ** 0.6
    picture = picture * (1 - tongue) + np.array([176.0, 92, 88]) * tongue
    arch = np.clip(1 - (x / 26) ** 2, 0, 1)
    edge = teeth_line - 1.6 * (1 - arch)
    teeth = (
        np.clip((edge - y) * frame.mm + 0.5, 0, 1)[:, :, None]
        * np.clip((27 - np.abs(x)) / 3, 0, 1)[:, :, None]
    )
    tooth = np.abs((np.abs(x) / 7.6) % 1.0 - 0.5) * 2
    lit = (0.35 + 0.65 * arch) * (1 - 0.22 * (np.abs(tooth - 1) < 0.1))
    ivory = np.array([226.0, 214, 196]) * lit[:, :, None]
    picture = picture * (1 - teeth) + ivory * teeth
    shade = np.clip(0.45 + 0.55 * np.minimum(y - top, 3.0) / 3.0, 0.3, 1)[:, :, None]
    return (picture * shade * exposure).astype(np.float32), mask


def _rounded(ring: NDArray[np.float64]) -> NDArray[np.float64]:
    """A closed Catmull-Rom curve through the ring's points."""
    p0, p1, p2, p3 = (np.roll(ring, s, 0)[:, None] for s in (1, 0, -1, -2))
    t = np.linspace(0, 1, 8, endpoint=False)[None, :, None]
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    out: NDArray[np.float64] = curve.reshape(-1, 2)
    return out


def _filled(curve: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Coverage of the area inside a curve, anti-aliased."""
    canvas = np.zeros((size[1] * 4, size[0] * 4), np.uint8)
    fixed = np.rint(((curve + 0.5) * 4 - 0.5) * 16).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], 255, cv2.LINE_8, 4)
    return np.asarray(cv2.resize(canvas, size, interpolation=cv2.INTER_AREA), np.float32) / np.float32(255)
