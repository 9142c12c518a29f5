"""The face box and the mask as MuseTalk was trained with them, from Face Mesh points.

MuseTalk takes the box from 68 points (iBUG's order): from as far above the half-face line (point 29, on the
bridge of the nose) as the lowest point is below it. v1 moves that line by ``bbox_shift``, v1.5 adds
``extra_margin`` below the chin.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.engines.base import ImageRejected
from inference_server.engines.musetalk.settings import Parsing, Settings

# Face Mesh points at iBUG's 68 places.
JAW = (127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356)
BROWS = (70, 63, 105, 66, 107, 336, 296, 334, 293, 300)
BRIDGE = (168, 197, 5, 4)
NOSTRILS = (98, 97, 2, 326, 327)
EYES = (33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380)
LIPS = (61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87)
IBUG = (*JAW, *BROWS, *BRIDGE, *NOSTRILS, *EYES, *LIPS)
HALF_FACE = 29
CHIN = slice(6, 11)
LOWER = 0.07  # the mesh's chin is nearer to the nose by so much than that of 68 points
OVAL = (
    *(10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377),
    *(152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109),
)
NOSE = (6, 197, 195, 5, 4, 1, 48, 115, 220, 64, 98, 97, 2, 326, 327, 294, 440, 344, 278)

_FACE = 256  # side of the picture of a face that MuseTalk's networks have; ``extra_margin`` is in its pixels
_PARSED = 512  # side of the picture that the mask is drawn in, as the parser's
_CHEEK = 90  # half width of the chin's part, in that picture


class Box(NamedTuple):
    """Corners in pixels; the second ones are exclusive."""

    x1: int
    y1: int
    x2: int
    y2: int

    @property
    def width(self) -> int:
        """Pixels across."""
        return self.x2 - self.x1

    @property
    def height(self) -> int:
        """Pixels down."""
        return self.y2 - self.y1


def ibug_points(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """``(68, 2)`` of ``(468, 2)``."""
    points = mesh[list(IBUG)]
    points[HALF_FACE] = (mesh[5] + mesh[195]) / 2  # the mesh has none there: the places above and below it
    points[CHIN] += LOWER * (points[CHIN] - points[HALF_FACE])
    return points


def face_extent(points: NDArray[np.float32], bbox_shift: int = 0) -> NDArray[np.float64]:
    """x1, y1, x2, y2 of the box around 68 points, before the margin, not rounded."""
    half = float(points[HALF_FACE, 1]) + bbox_shift
    low = float(points[:, 1].max())
    top = max(0.0, half - (low - half))
    return np.array([points[:, 0].min(), top, points[:, 0].max(), low])


def face_boxes(meshes: NDArray[np.float32], width: int, height: int, settings: Settings) -> list[Box]:
    """One box per body frame, steady where the points shake. ``meshes``: ``(n, 468, 2)`` in pixels. Raises
    :class:`ImageRejected`."""
    shift = settings.bbox_shift if settings.version == "v1" else 0
    margin = settings.extra_margin if settings.version == "v15" else 0
    extents = steady(np.stack([face_extent(ibug_points(mesh), shift) for mesh in meshes]))
    return [_box(extent, margin, width, height) for extent in extents]


def _box(extent: NDArray[np.float64], margin: int, width: int, height: int) -> Box:
    x1, y1, x2, y2 = (int(v) for v in extent)
    below = round(margin * (y2 - y1) / _FACE)
    box = Box(max(x1, 0), max(y1, 0), min(x2, width), min(y2 + below, height))
    if box.width < 32 or box.height < 32:
        raise ImageRejected(
            f"the face is {max(box.width, 0)}x{max(box.height, 0)} pixels in the picture: 32x32 is the least "
            "that a mouth can be drawn in; use a picture in which it is larger"
        )
    return box


def steady(extents: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean over five frames where corners shake by more than 0.3 % of the face's height, else unchanged."""
    if len(extents) < 5:
        return extents
    tall = float(np.median(extents[:, 3] - extents[:, 1]))
    shake = np.abs(np.diff(extents, n=2, axis=0))
    if float(np.percentile(shake, 90)) <= 0.003 * max(tall, 1.0):
        return extents
    padded = np.pad(extents, ((2, 2), (0, 0)), mode="reflect")
    return np.lib.stride_tricks.sliding_window_view(padded, 5, axis=0).mean(axis=-1)


def crop_square(box: Box) -> Box:
    """The square around the face box that the mask is drawn in; may reach outside the picture."""
    half = int(max(box.width, box.height) // 2 * 1.5)
    x, y = (box.x1 + box.x2) // 2, (box.y1 + box.y2) // 2
    return Box(x - half, y - half, x + half, y + half)


def polygon_region(mesh: NDArray[np.float32], square: Box, mode: Parsing) -> NDArray[np.uint8]:
    """``(512, 512)`` of 0 and 255: what of the square is the talking face, from the points alone."""
    scale = _PARSED / square.width
    points = (mesh - np.array([square.x1, square.y1], np.float32)) * scale
    skin = np.zeros((_PARSED, _PARSED), np.uint8)
    cv2.fillPoly(skin, [np.round(points[list(OVAL)]).astype(np.int32)], (255,))
    nose = np.zeros_like(skin)
    cv2.fillConvexPoly(nose, cv2.convexHull(np.round(points[list(NOSE)]).astype(np.int32)), (255,))
    lips = np.zeros_like(skin)
    cv2.fillPoly(lips, [np.round(points[list(LIPS[:12])]).astype(np.int32)], (255,))
    return talking_region(skin, nose, lips, mode)


def talking_region(
    skin: NDArray[np.uint8], nose: NDArray[np.uint8], lips: NDArray[np.uint8], mode: Parsing
) -> NDArray[np.uint8]:
    """Three ``(512, 512)`` masks into one. ``raw``: skin and lips. ``jaw``: the skin grown by a cone, so that
    the chin may drop, and drawn in at the cheeks; without the nose."""
    if mode == "raw":
        return (skin & ~nose) | lips
    cone = np.zeros((33, 33), np.uint8)
    for row in range(10, 33):
        reach = min(row - 10, 10)
        cone[row, 16 - reach : 16 + reach + 1] = 1
    sides = np.ones(_PARSED, bool)
    sides[_PARSED // 2 - _CHEEK + 1 : _PARSED // 2 + _CHEEK] = False
    part = around(skin, 17)  # nothing grows further
    grown = cv2.dilate(skin[part], cone)
    drawn_in = cv2.erode(grown, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (35, 3)), iterations=2)
    region = np.zeros_like(skin)
    region[part] = np.where(sides[None, part[1]], drawn_in, grown)
    return (region & ~nose) | lips


def around(mask: NDArray[np.uint8], reach: int) -> tuple[slice, slice]:
    """Rows and columns of what is not 0, and ``reach`` pixels around it."""
    x, y, w, h = cv2.boundingRect(mask)
    return slice(max(y - reach, 0), y + h + reach), slice(max(x - reach, 0), x + w + reach)


def soft_mask(region: NDArray[np.uint8], box: Box, square: Box) -> NDArray[np.uint8]:
    """``(side, side)`` weights 0..255 over the square: the region inside the face box and below the middle,
    with soft edges."""
    side = square.width
    hard = np.zeros((side, side), np.uint8)
    fitted = np.asarray(cv2.resize(region, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
    left, top = box.x1 - square.x1, box.y1 - square.y1
    inside = (slice(max(top, side // 2), top + box.height), slice(left, left + box.width))
    hard[inside] = fitted[inside]
    kernel = int(0.1 * side // 2 * 2) + 1
    soft, part = np.zeros_like(hard), around(hard, kernel)
    soft[part] = cv2.GaussianBlur(hard[part], (kernel, kernel), 0)
    return soft


def mask_in_box(soft: NDArray[np.uint8], box: Box, square: Box) -> NDArray[np.uint8]:
    """The mask over the face box only: nothing outside it is drawn. It fades out towards the box's sides and
    foot, where the blur alone would end in an edge."""
    left, top = box.x1 - square.x1, box.y1 - square.y1
    cut = soft[top : top + box.height, left : left + box.width]
    reach = max(2.0, 0.04 * box.width)
    x, y = np.arange(box.width), np.arange(box.height)[::-1]
    sides = np.minimum(np.minimum(x, x[::-1]) / reach, 1.0)
    foot = np.minimum(y / reach, 1.0)
    return np.asarray(np.round(cut * sides * foot[:, None]), np.uint8)


def tightest(masks: Sequence[NDArray[np.uint8]]) -> list[tuple[int, int, int, int]]:
    """x1, y1, x2, y2 of the nonzero part of each mask."""
    out = []
    for mask in masks:
        x, y, w, h = cv2.boundingRect(mask)
        out.append((x, y, x + w, y + h))
    return out
