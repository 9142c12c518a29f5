"""The outline of eyes that are larger than the mesh believes, as drawn and stylised ones are."""

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
_GOES_ON = (0.06, 0.5)  # of the eye's height: how far an eye is followed beyond the mesh's edge
_AGREE = 0.15  # of the eye's height: columns whose middle half differs more follow a shadow
_NEAR = 0.35  # of the contrast between eye and skin: colours nearer than this to skin are skin

Ring = NDArray[np.float32]


def fitted(rgb: NDArray[np.uint8], rings: Sequence[Ring]) -> list[Ring]:
    """The ``(16, 2)`` points of each eye's edge (corner, upper lid, corner, lower lid): in a drawing of flat
    colours with the lower lids and the corners moved out to where skin begins, in any other picture with the lower
    lids moved down as far as the eye goes on below the mesh's edge, if it does.
    """
    found = [drawn for ring in rings if (drawn := _drawn(rgb, ring)) is not None]
    return found if len(found) == len(rings) else _continued(rgb, rings)


def _drawn(rgb: NDArray[np.uint8], ring: Ring) -> Ring | None:
    down = _down(ring)
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
    for corner in (0, 8):
        _move(out, corner, _beyond(rgb, ring, corner, 0.25 * more * down, skin, _SKIN) or 0.0, ring)
    return out


def _continued(rgb: NDArray[np.uint8], rings: Sequence[Ring]) -> list[Ring]:
    """The rings with their lower lids where colours become the skin's below, as all columns of both eyes say."""
    depth = np.arange(-0.25, 1.25, 0.025).astype(np.float32)
    inside, ends = depth < -0.1, depth >= -0.1
    downs, found, skins = [_down(ring) for ring in rings], [], []
    for ring, down in zip(rings, downs, strict=True):
        seen = _lab(rgb, ring[None, 10:15] + depth[:, None, None] * down)
        skin = np.median(seen[depth > 0.85], 0)
        contrast = float(np.median(np.linalg.norm(np.median(seen[inside], 0) - skin, axis=1)))
        skins.append((np.median(skin, 0), max(_SKIN, _NEAR * contrast)))
        is_skin = np.linalg.norm(seen - skin, axis=2)[ends] < skins[-1][1]
        found.append(depth[ends][is_skin.argmax(0)][~is_skin[0]])  # white of the eye may look like skin
    goes_on = np.concatenate([*found, np.zeros(0, np.float32)])
    if len(goes_on) < 3 * len(rings):
        return list(rings)
    low, more, high = np.percentile(goes_on, [25, 50, 75])
    if not _GOES_ON[0] <= more <= _GOES_ON[1] or high - low > _AGREE:
        return list(rings)
    shape = np.sin(np.pi * np.arange(1, 8) / 8)[:, None].astype(np.float32) ** 0.5
    moved = [ring.copy() for ring in rings]
    for out, down in zip(moved, downs, strict=True):
        out[9:] += (float(more) + _OVER) * shape * down
    for corner in (0, 8) if more >= _LEAST else ():  # an eye so much larger is wider as well
        each = [
            _beyond(rgb, ring, corner, 0.25 * float(more) * down, *skin)
            for ring, down, skin in zip(rings, downs, skins, strict=True)
        ]
        wider = max((found for found in each if found is not None), default=0.0)
        for out, ring in zip(moved, rings, strict=True):
            _move(out, corner, wider, ring)
    return moved


def _beyond(
    rgb: NDArray[np.uint8],
    ring: Ring,
    corner: int,
    lower: NDArray[np.float32],
    skin: NDArray[np.float32],
    near: float,
) -> float | None:
    """How far out of a corner, in widths of the eye and ``lower`` than it, colours ``near`` the skin's begin."""
    away = np.arange(0, _SIDE, 0.02).astype(np.float32)
    row = _lab(rgb, ring[corner] + lower + away[:, None] * (ring[corner] - ring[8 - corner]))
    is_skin = np.linalg.norm(row - skin, axis=1) < near
    return float(away[is_skin.argmax()]) if is_skin.any() else None


def _move(out: Ring, corner: int, wider: float, ring: Ring) -> None:
    """Move a corner out, and the points beside it less."""
    for step, share in enumerate(_FOLLOW):
        for index in {(corner + step) % 16, (corner - step) % 16}:
            out[index] += share * wider * (ring[corner] - ring[8 - corner])


def _down(ring: Ring) -> NDArray[np.float32]:
    """From the upper lid to the lower one, as long as the eye is high."""
    height = float(np.linalg.norm(ring[9:] - ring[7:0:-1], axis=1).max())
    down = ring[9:].mean(0) - ring[1:8].mean(0)
    return np.asarray(down * height / max(float(np.linalg.norm(down)), 1e-3), np.float32)


def _lab(rgb: NDArray[np.uint8], at: NDArray[np.float32]) -> NDArray[np.float32]:
    """CIELAB, lightness 0..100, at points ``(..., 2)``."""
    x, y = np.moveaxis(np.rint(at).astype(int), -1, 0)
    seen = rgb[np.clip(y, 0, rgb.shape[0] - 1), np.clip(x, 0, rgb.shape[1] - 1)]
    flat = cv2.cvtColor(seen.reshape(1, -1, 3).astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return np.asarray(flat.reshape(seen.shape), np.float32)
