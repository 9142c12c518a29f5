"""Portraits of every kind that a person may bring, all of them ours."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.image import load_image

FACES = Path(__file__).resolve().parents[1] / "avatars" / "faces"
"""Rendered by ``examples/portrait``: nobody real."""
IRIS = FACES / "iris.png"
"""The picture that most tests start from: a fair young woman from the front, her lips together."""
Picture = NDArray[np.uint8]


@cache
def default() -> Picture:
    """:data:`IRIS`"""
    return load_image(IRIS.read_bytes())


def rendered(name: str) -> Picture:
    """A picture of :data:`FACES`."""
    return load_image((FACES / f"{name}.jpg").read_bytes())


def close_up() -> Picture:
    """From the hair to the chin, ear to ear, and no more."""
    h, w = default().shape[:2]
    return np.ascontiguousarray(default()[int(0.14 * h) : int(0.70 * h), int(0.25 * w) : int(0.77 * w)])


def half_body() -> Picture:
    """A small face in a tall picture."""
    picture = np.full((900, 600, 3), (92, 120, 128), np.uint8)
    person = cv2.resize(default(), (300, 300), interpolation=cv2.INTER_AREA)
    picture[120:420, 150:450] = person
    picture[420:, 150:450] = cv2.resize(person[-1:], (300, 480))
    return picture


def laughing() -> Picture:
    """White teeth between parted lips."""
    picture = default().copy()
    h, w = picture.shape[:2]
    mouth = np.array([[0.455, 0.6], [0.5, 0.592], [0.545, 0.6], [0.53, 0.625], [0.5, 0.632], [0.47, 0.625]])
    points = np.rint(mouth * [w, h]).astype(np.int32)
    cv2.fillPoly(picture, [points], (240, 232, 220), cv2.LINE_AA)
    return picture


def painting() -> Picture:
    """Broad strokes on canvas."""
    strokes = cv2.pyrMeanShiftFiltering(
        cv2.resize(default(), (400, 400), interpolation=cv2.INTER_AREA), 7, 24
    )
    weave = np.random.default_rng(2).normal(0, 7, (400, 400, 1))
    return np.asarray(np.clip(strokes * [1.0, 0.92, 0.7] + weave, 0, 255), np.uint8)


def cartoon(size: int = 360) -> Picture:
    """Flat colours and outlines in human proportions."""
    fine = 4
    side = size * fine
    picture = np.full((side, side, 3), (235, 214, 190), np.uint8)
    ink, skin, shade, hair = (60, 40, 45), (246, 205, 170), (232, 180, 145), (94, 58, 40)

    def at(*points: tuple[float, float]) -> NDArray[np.int32]:
        return np.asarray(np.rint(np.array(points) * side), np.int32)

    def oval(
        x: float,
        y: float,
        across: float,
        down: float,
        colour: tuple[int, ...],
        line: float = 0.0,
        arc: tuple[int, int] = (0, 360),
    ) -> None:
        centre, axes = (round(x * side), round(y * side)), (round(across * side), round(down * side))
        cv2.ellipse(picture, centre, axes, 0, *arc, colour, round(line * side) or -1, cv2.LINE_AA)

    oval(0.5, 0.45, 0.275, 0.345, hair)
    oval(0.5, 1.02, 0.36, 0.22, (70, 110, 160))
    cv2.fillPoly(picture, [at((0.42, 0.7), (0.58, 0.7), (0.58, 0.88), (0.42, 0.88))], shade)
    oval(0.5, 0.5, 0.225, 0.29, skin)
    oval(0.5, 0.28, 0.235, 0.115, hair)
    for x in (0.412, 0.588):
        oval(x, 0.475, 0.042, 0.025, (255, 255, 255))
        oval(x, 0.475, 0.020, 0.023, (70, 95, 60))
        oval(x, 0.475, 0.010, 0.011, (15, 15, 15))
        oval(x, 0.477, 0.044, 0.028, ink, 0.008, (185, 355))
        oval(x, 0.432, 0.055, 0.022, hair, 0.012, (195, 345))
    cv2.polylines(
        picture, [at((0.497, 0.48), (0.478, 0.57), (0.49, 0.582))], False, shade, size // 30, cv2.LINE_AA
    )
    oval(0.5, 0.575, 0.032, 0.018, shade, 0.008, (10, 170))
    corner, centre, other = (0.425, 0.66), (0.5, 0.667), (0.575, 0.66)
    for colour, edge in (
        ((205, 105, 100), ((0.53, 0.645), (0.5, 0.652), (0.47, 0.645))),
        ((220, 125, 118), ((0.54, 0.687), (0.5, 0.692), (0.46, 0.687))),
    ):
        cv2.fillPoly(picture, [at(corner, centre, other, *edge)], colour, cv2.LINE_AA)
    cv2.polylines(picture, [at(corner, centre, other)], False, (120, 50, 55), size // 42, cv2.LINE_AA)
    oval(0.5, 0.5, 0.225, 0.29, ink, 0.005, (-15, 195))
    return np.asarray(cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA), np.uint8)
