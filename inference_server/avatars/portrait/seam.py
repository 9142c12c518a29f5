"""Where closed lips meet: the mesh guesses it, the picture shows it.

Face Mesh often sees a gap of some millimetres between full lips that touch. Between lips that touch there is
lip and one thin dark line; between open lips there are teeth or the dark of the mouth.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.closing import OPEN_MM
from inference_server.avatars.portrait.corners import cornered
from inference_server.avatars.portrait.lips import (
    LOWER_INNER,
    LOWER_OUTER,
    UPPER_INNER,
    UPPER_OUTER,
    MouthAxes,
)

_STEP = 0.25  # millimetres between samples down a column
_LINE_MM = 2.6  # a dark band higher than this is an opening, not a line
_COLUMNS = slice(3, 8)  # of eleven: the middle of the mouth


def settled(rgb: NDArray[np.uint8], points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The points, with both inner contours on the dark line where the picture shows closed lips, and the corners
    at its ends."""
    frame = MouthAxes(points)
    contours = [
        frame.to_mm(points[list(indices), :2].astype(np.float64))
        for indices in (UPPER_OUTER, UPPER_INNER, LOWER_INNER, LOWER_OUTER)
    ]
    upper_outer, upper_inner, lower_inner, lower_outer = contours
    x = (upper_inner[:, 0] + lower_inner[:, 0]) / 2
    top, bottom = float(upper_outer[:, 1].min()), float(lower_outer[:, 1].max())
    y = np.arange(top, bottom, _STEP)
    at = frame.to_pixels(np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)).astype(np.float32)
    at = at.reshape(len(y), len(x), 2)
    soft = cv2.GaussianBlur(rgb, (0, 0), max(0.4, 0.3 * frame.mm))
    lab = cv2.cvtColor(cv2.remap(soft, at[:, :, 0], at[:, :, 1], cv2.INTER_LINEAR), cv2.COLOR_RGB2LAB)
    samples = lab.astype(np.float64) * [0.5, 1.0, 1.0]
    rows = np.repeat(y[:, None], len(x), 1)
    upper = (rows > upper_outer[:, 1] * 0.6 + upper_inner[:, 1] * 0.4) & (rows < upper_inner[:, 1])
    lower = (rows > lower_inner[:, 1]) & (rows < lower_inner[:, 1] * 0.5 + lower_outer[:, 1] * 0.5)
    between = (rows >= upper_inner[:, 1]) & (rows <= lower_inner[:, 1])
    for mask in (upper, lower, between):
        mask[:, : _COLUMNS.start] = mask[:, _COLUMNS.stop :] = False
    if not (upper.any() and lower.any()):
        return points
    if between.sum() >= 8:
        tones = np.array([np.median(samples[mask], 0) for mask in (upper, lower)])
        seen = samples[between]
        teeth = (seen[:, 0] > tones[:, 0].max() + 10) | (
            (seen[:, 1] < tones[:, 1].min() - 7) & (seen[:, 0] > tones[:, 0].min() - 5)
        )
        dark = seen[:, 0] < 0.55 * tones[:, 0].min()  # the shaded part of a lip is not so dark
        if teeth.mean() > 0.12 or dark.sum() / (_COLUMNS.stop - _COLUMNS.start) * _STEP > _LINE_MM:
            parted = float((lower_inner - upper_inner)[_COLUMNS, 1].max())
            return points if parted >= OPEN_MM else cornered(rgb, points)
    middle = (upper_inner[:, 1] + lower_inner[:, 1]) / 2
    reach = np.maximum(1.5, 0.75 * (lower_inner[:, 1] - upper_inner[:, 1]))
    away = np.abs(rows - middle) / reach
    cost = samples[:, :, 0] + 4.0 * away**2 + np.where(away > 1.3, 1e3, 0.0)
    line = y[np.argmin(cost, 0)]
    line[0], line[10] = middle[0], middle[10]
    padded = np.pad(line, 1, mode="edge")
    line[1:10] = np.median([padded[1:10], padded[2:11], padded[3:12]], 0)
    line[1:10] = 0.25 * line[0:9] + 0.5 * line[1:10] + 0.25 * line[2:11]
    meeting = frame.to_pixels(np.stack([x, line], 1))
    out = points.copy()
    out[list(UPPER_INNER[1:10]), :2] = meeting[1:10]
    out[list(LOWER_INNER[1:10]), :2] = meeting[1:10]
    return cornered(rgb, out)
