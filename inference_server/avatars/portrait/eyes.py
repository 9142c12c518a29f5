"""The outline of drawn eyes, which are larger than the mesh believes."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_SKIN = 12.0  # of CIELAB: colours nearer than this to the cheek's are skin
_FLAT = 1.5  # of CIELAB: a cheek that varies less than this is drawn in one colour
_LEAST, _MOST = 0.3, 1.0  # of the eye's height: how far down a lid may be moved
_EVEN = 0.31  # of the eye's height: shadows and lashes end less evenly than a drawn edge
_OVER = 0.12  # of the eye's height: a shut lid covers the edge
_SIDE = 0.3  # of the eye's width: how far out a corner may be moved
_FOLLOW = (1.0, 0.75, 0.45, 0.2)  # how far the points beside a corner move with it

Ring = NDArray[np.float32]


def fitted(rgb: NDArray[np.uint8], rings: Sequence[Ring]) -> list[Ring]:
    """The ``(16, 2)`` points of each eye's edge (corner, upper lid, corner, lower lid); in a drawing of flat
    colours with the lower lids and the corners moved out to where skin begins.

    In any other picture the mesh is the better judge.
    """
    found = [drawn for ring in rings if (drawn := _drawn(rgb, ring)) is not None]
    return found if len(found) == len(rings) else list(rings)


def _drawn(rgb: NDArray[np.uint8], ring: Ring) -> Ring | None:
    height = float(np.linalg.norm(ring[9:] - ring[7:0:-1], axis=1).max())
    down = ring[9:].mean(0) - ring[1:8].mean(0)
    down *= height / max(float(np.linalg.norm(down)), 1e-3)
    depth = np.arange(0, 2, 0.05).astype(np.float32)
    seen = _lab(rgb, ring[None, 10:15] + depth[:, None, None] * down)
    cheek = seen[depth > 1.3].reshape(-1, 3)
    skin = np.median(cheek, 0)
    if float(np.linalg.norm(cheek - skin, axis=1).mean()) > _FLAT:
        return None
    begins = depth[(np.linalg.norm(seen - skin, axis=2) < _SKIN).argmax(0)]
    more = float(np.median(begins))
    if not _LEAST <= more <= _MOST or float(np.ptp(begins)) > _EVEN:
        return None
    out = ring.copy()
    out[9:] += (more + _OVER) * np.sin(np.pi * np.arange(1, 8) / 8)[:, None].astype(np.float32) * down
    away = np.arange(0, _SIDE, 0.02).astype(np.float32)[:, None]
    for corner, other in ((0, 8), (8, 0)):
        outwards = ring[corner] - ring[other]
        row = _lab(rgb, ring[corner] + 0.25 * more * down + away * outwards)
        wider = float(away[(np.linalg.norm(row - skin, axis=1) < _SKIN).argmax(), 0])
        for step, share in enumerate(_FOLLOW):
            for index in {(corner + step) % 16, (corner - step) % 16}:
                out[index] += share * wider * outwards
    return out


def _lab(rgb: NDArray[np.uint8], at: NDArray[np.float32]) -> NDArray[np.float32]:
    """CIELAB, lightness 0..100, at points ``(..., 2)``."""
    x, y = np.moveaxis(np.rint(at).astype(int), -1, 0)
    seen = rgb[np.clip(y, 0, rgb.shape[0] - 1), np.clip(x, 0, rgb.shape[1] - 1)]
    flat = cv2.cvtColor(seen.reshape(1, -1, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(flat.reshape(seen.shape), np.float32)
