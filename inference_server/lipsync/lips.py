"""What the lips do in pictures: the gap between them and the width of the mouth, by Face Mesh."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.landmarks import (
    LEFT_EYE_OUTER,
    RIGHT_EYE_OUTER,
    FaceLandmarks,
    FaceMesh,
)

_INNER = ((82, 87), (13, 14), (312, 317))  # upper and lower inner lip: right of the middle, middle, left
_CORNERS = (61, 291)

Signal = NDArray[np.float64]


@dataclass(frozen=True)
class LipTrack:
    """Per picture: time in seconds, inner-lip gap and mouth width, both over the distance of the outer eye
    corners. ``lost``: pictures without a face, left out."""

    times: Signal
    gap: Signal
    width: Signal
    lost: int

    @property
    def slot(self) -> float:
        """Seconds that a picture is shown: the median distance."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.04


def lips_of(face: FaceLandmarks) -> tuple[float, float]:
    """Gap and width of one face."""
    p = face.points[:, :2].astype(np.float64)
    eyes = float(np.linalg.norm(p[LEFT_EYE_OUTER] - p[RIGHT_EYE_OUTER]))
    gap = float(np.mean([np.linalg.norm(p[a] - p[b]) for a, b in _INNER]))
    return gap / eyes, float(np.linalg.norm(p[_CORNERS[0]] - p[_CORNERS[1]])) / eyes


def face_rows(
    mesh: FaceMesh,
    pictures: Iterable[tuple[float, NDArray[np.uint8]]],
    measure: Callable[[NDArray[np.uint8], FaceLandmarks], Iterable[float]],
    views: int = 1,
) -> tuple[list[list[float]], int]:
    """The time of each picture and what ``measure`` reads of its largest face, and how many had none.

    ``views``: of each face, whose mean is read (``FaceMesh.follow``). Raises ``ValueError`` when there are too few
    with one.
    """
    face: FaceLandmarks | None = None
    rows: list[list[float]] = []
    lost = 0
    for at, rgb in pictures:
        face = mesh.follow(rgb, face, views=views) if face is not None else None
        if face is None:
            found = mesh.detect(rgb)
            face = found[0] if found else None
        if face is None:
            lost += 1
            continue
        rows.append([at, *measure(rgb, face)])
    if len(rows) < 10:
        raise ValueError(
            f"a face was found in {len(rows)} of {len(rows) + lost} pictures: too few to measure"
        )
    return rows, lost


def track_lips(pictures: Iterable[tuple[float, NDArray[np.uint8]]]) -> LipTrack:
    """Follow the largest face through the pictures. Raises ``ValueError`` when there are too few with one."""
    rows, lost = face_rows(FaceMesh(), pictures, lambda rgb, face: lips_of(face))
    table = np.array(rows)
    return LipTrack(table[:, 0], table[:, 1], table[:, 2], lost)
