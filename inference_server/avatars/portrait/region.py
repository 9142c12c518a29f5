"""The part of a face that speech changes."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from visavis.frames import Rect

EYE_CORNERS_MM = 88.0  # between the outer corners of an adult's eyes


def millimetre(points: NDArray[np.float32]) -> float:
    """Pixels of one millimetre on this face, by its height and its eyes (whichever the pose shortens less)."""
    eyes = float(np.linalg.norm(points[263, :2] - points[33, :2])) / EYE_CORNERS_MM
    face = float(np.linalg.norm(points[10, :2] - points[152, :2])) / 168.0
    return max(eyes, 0.9 * face)


def own_motion(landmarks: NDArray[np.float32], motion: NDArray[np.float32]) -> float:
    """The most that a loop's lips move beside the head, in widths of the mouth: a mouth that speaks in the
    loop itself has 0.2 and more. ``landmarks``: ``(n, 468, 2)``; ``motion``: ``(n, 2, 3)`` from frame 0."""
    lips = [61, 291, 0, 13, 14, 17]
    placed = np.einsum("nij,pj->npi", motion[:, :, :2], landmarks[0, lips]) + motion[:, None, :, 2]
    width = float(np.linalg.norm(landmarks[0, 61] - landmarks[0, 291]))
    own = landmarks[:, lips] - placed
    return float(np.abs(own - own.mean(1, keepdims=True)).max()) / max(width, 1.0)


def mouth_region(points: NDArray[np.float32], area: Rect) -> Rect:
    """Even rectangle from the nose's base to below the chin, cut to ``area``."""
    mm = millimetre(points)
    jaw = points[[58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288], :2]
    nose = float(points[2, 1])
    centre = float((points[61, 0] + points[291, 0]) / 2)
    half = max(46 * mm, 0.5 * float(points[291, 0] - points[61, 0]) + 18 * mm)
    left, right = centre - half, centre + half
    top, bottom = min(nose - 6 * mm, float(points[13, 1]) - 20 * mm), float(jaw[:, 1].max()) + 24 * mm
    x0, y0 = max(int(left) // 2 * 2, area.x), max(int(top) // 2 * 2, area.y)
    x1 = min(-(-int(right) // 2) * 2, area.x + area.width)
    y1 = min(-(-int(bottom) // 2) * 2, area.y + area.height)
    return Rect(x0, y0, max(x1 - x0, 2), max(y1 - y0, 2))
