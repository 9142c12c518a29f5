"""Where the line between closed lips ends: the mesh's corners often lie some millimetres beside it."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.lips import (
    LOWER_INNER,
    LOWER_OUTER,
    UPPER_INNER,
    UPPER_OUTER,
    MouthAxes,
    Points,
)

_STEP = 0.25  # millimetres between samples
_INSIDE, _BEYOND = 5.0, 4.5  # millimetres before and behind the mesh's corner where the line may end
_ASIDE = 4.0  # millimetres above and below the mesh's line that are searched
_BESIDE = 2.0  # millimetres above and below the line where the skin that it is darker than is sampled
_FAINT = 0.4  # of the line's usual contrast: fainter than this is no longer the line
_LEAST = 8.0  # levels of contrast that make a line
_WALL = 1.2  # millimetres between the inner and the outer corner
_CLIMB = (-2, -1, 0, 1, 2)  # samples up or down from one column to the next
_FOLLOWS = {3: 0.15, 4: 0.5, 5: 1.0}  # how far the columns, counted from the middle, follow the corner


def cornered(rgb: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The points of closed lips with the corners at the ends of the dark line between them.

    A corner whose line cannot be followed stays where it was.
    """
    frame = MouthAxes(points)
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
    soft = np.asarray(cv2.GaussianBlur(grey, (0, 0), max(0.4, 0.3 * frame.mm)), np.uint8)
    out = points.copy()

    def at(indices: list[int]) -> Points:
        return frame.to_mm(points[indices, :2].astype(np.float64))

    for side in (-1, 1):
        columns = [5 + side * step for step in range(2, 6)]
        line = (at([UPPER_INNER[c] for c in columns]) + at([LOWER_INNER[c] for c in columns])) / 2
        corner = at([UPPER_OUTER[columns[-1]]])
        path = _followed(soft, frame, np.concatenate([line, corner]), side)
        if path is None:
            continue
        outer = path[-1] - corner[0]
        inner = path[-1, 0] - side * _WALL - line[-1, 0]
        for step, share in _FOLLOWS.items():
            column = 5 + side * step
            x = line[step - 2, 0] + share * inner
            y = np.interp(side * x, side * path[:, 0], path[:, 1])
            out[[UPPER_INNER[column], LOWER_INNER[column]], :2] = frame.to_pixels(np.array([[x, y]]))
            edges = sorted({UPPER_OUTER[column], LOWER_OUTER[column]})
            out[edges, :2] = frame.to_pixels(at(edges) + share * outer)
    return out


def _followed(soft: NDArray[np.uint8], frame: MouthAxes, line: Points, side: int) -> Points | None:
    """The dark line from the first of the mesh's points on it to its end, ``(n, 2)`` millimetres."""
    long = side * float(line[-1, 0] - line[0, 0])
    if long < _INSIDE + 1:
        return None
    along = np.arange(0.0, long + _BEYOND, _STEP)
    x = line[0, 0] + side * along
    middle = np.interp(along, side * (line[:, 0] - line[0, 0]), line[:, 1])
    offsets = np.arange(-_ASIDE - _BESIDE, _ASIDE + _BESIDE + _STEP / 2, _STEP)
    y = middle[None] + offsets[:, None]
    at = frame.to_pixels(np.stack([np.broadcast_to(x, y.shape), y], -1).reshape(-1, 2)).astype(np.float32)
    at = at.reshape(*y.shape, 2)
    light = cv2.remap(soft, at[:, :, 0], at[:, :, 1], cv2.INTER_LINEAR).astype(np.float64)
    far = round(_BESIDE / _STEP)
    valley = np.minimum(light[: -2 * far], light[2 * far :]) - light[far:-far]
    rows = _deepest(valley)
    depth = valley[rows, np.arange(len(along))]
    sure = round((long - _INSIDE) / _STEP)
    usual = float(np.median(depth[:sure]))
    if usual < _LEAST or float(np.quantile(depth[:sure], 0.2)) < _FAINT * usual:
        return None
    faint = np.flatnonzero(depth[sure:] < _FAINT * usual)
    # a crease that leads on from the corner has no end to be seen
    end = sure + int(faint[0]) if len(faint) else round(long / _STEP)
    if rows[:end].min() == 0 or rows[:end].max() == len(valley) - 1:
        return None
    return np.stack([x, y[rows + far, np.arange(len(along))]], 1)[:end]


def _deepest(valley: NDArray[np.float64]) -> NDArray[np.int64]:
    """The row of each column on the path along the deepest valleys, which begins near the middle."""
    height, width = valley.shape
    reach = max(_CLIMB)
    best = valley[:, 0] - 3.0 * np.abs(np.arange(height) - height // 2)
    back = np.zeros((width, height), np.int64)
    for column in range(1, width):
        padded = np.pad(best, reach, constant_values=-np.inf)
        choices = np.stack([padded[reach + c : reach + c + height] - 0.4 * abs(c) for c in _CLIMB])
        back[column] = choices.argmax(0) - reach
        best = choices.max(0) + np.maximum(valley[:, column], -5)
    rows = np.empty(width, np.int64)
    rows[-1] = int(best.argmax())
    for column in range(width - 1, 0, -1):
        rows[column - 1] = rows[column] + back[column, rows[column]]
    return rows
