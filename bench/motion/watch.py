"""What a face does in a row of pictures: lips by Face Mesh, the head, eyes and brows followed to parts of a pixel.

The lips are the mean of five views of each picture: one alone is off by 30 mm/s and more from picture to picture.
Points of the head are followed from the first picture by optical flow (Lucas and Kanade 1981), so that a still head
stands still to a hundredth of a degree. Yaw and pitch are those of a head on a still neck whose nose swings as far;
how much of that its features show among themselves (parallax), and the roll, are those of the mesh which fits them
best (orthographic, least squares).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.framing import EYES
from inference_server.avatars.portrait.landmarks import FaceLandmarks, FaceMesh
from inference_server.avatars.portrait.region import EYE_CORNERS_MM
from inference_server.lipsync.lips import face_rows

_RIGID = (
    10,
    151,
    9,
    8,
    168,
    6,
    197,
    195,
    5,
    4,
    1,
    116,
    345,
    123,
    352,
    50,
    280,
    67,
    297,
    109,
    338,
    103,
    332,
    118,
    347,
)
_BROWS = (105, 66, 107, 334, 296, 336)
_INNER = ((82, 87), (13, 14), (312, 317))
_RING = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308, 324, 318, 402, 317, 14, 87, 178, 88, 95)
_CHEEKS = (50, 280)
_AT_REST = 5  # pictures of a closed mouth at the beginning
_TIP = _RIGID.index(1)
_NECK_MM = 105.0  # from the axis of the neck to the tip of the nose
_TEETH = 0.62  # of the cheek's luma: brighter than that between the lips are teeth
_RIM_MM = 0.8  # so far the mesh's mouth lies over lips and skin, which are as bright
_WITHIN = 0.85  # of an eye's outline: without the lashes
_EYE_MM = 12.0  # radius of an eyeball
_LIDS = ((159, 145), (386, 374))  # over and under the pupils and as deep; the eyes' corners lie 8 mm behind
_VIEWS = 5
_FLOW = {"winSize": (21, 21), "maxLevel": 2}

Signal = NDArray[np.float64]
Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Watched:
    """One row per picture. ``times``: seconds. ``gap``, ``width``: of the mouth, mm. ``head``: ``(n, 3)`` yaw,
    pitch (chin up positive) and roll in degrees. ``parallax``: ``(n, 2)`` yaw and pitch by it. ``nose``: ``(n, 2)``
    mm. ``lids``: contrast of the eyes, 1 open, under .6 shut. ``lid_luma``: of the eyes over the cheeks'. ``gaze``:
    ``(n, 2)`` degrees right and down, in the head; NaN in blinks. ``brows``: mm up. ``teeth``: share of the open
    mouth that shows teeth. ``lost``: pictures without a face, left out."""

    times: Signal
    gap: Signal
    width: Signal
    head: Signal
    parallax: Signal
    nose: Signal
    lids: Signal
    lid_luma: Signal
    gaze: Signal
    brows: Signal
    teeth: Signal
    lost: int

    @property
    def slot(self) -> float:
        """Seconds that a picture is shown."""
        return float(np.median(np.diff(self.times)))


class _Reference:
    """The first picture: what later ones are compared with."""

    def __init__(self, rgb: Rgb, mesh: FaceMesh, face: FaceLandmarks) -> None:
        self.face = mesh.follow(rgb, face, views=5) or face
        self.grey = _grey(rgb)
        points = self.face.points.astype(np.float64)
        self.mm = float(np.linalg.norm(points[263, :2] - points[33, :2])) / EYE_CORNERS_MM
        self.rigid = points[list(_RIGID)]
        self.centre = self.rigid.mean(0)
        self.pupils = np.array([self._pupil(points[list(EYES[side]), :2]) for side in (0, 1)])
        depth = [points[list(lids), 2].mean() for lids in _LIDS]
        flat = np.concatenate([points[list(_BROWS), :2], self.pupils])
        self.others = np.column_stack([flat, np.concatenate([points[list(_BROWS), 2], depth])])
        self.start = np.concatenate([self.rigid[:, :2], flat]).astype(np.float32).reshape(-1, 1, 2)
        self.rings = []
        for side in (0, 1):
            ring = points[list(EYES[side])]
            self.rings.append(ring.mean(0) + _WITHIN * (ring - ring.mean(0)))
        self.contrast = [_inside(self.grey, ring[:, :2]).std() for ring in self.rings]

    def _pupil(self, ring: Signal) -> Signal:
        inside = np.zeros(self.grey.shape, np.uint8)
        middle = ring.mean(0)
        cv2.fillPoly(inside, [np.rint(middle + 0.8 * (ring - middle)).astype(np.int32)], 1)
        y, x = np.nonzero(inside)
        weight = (
            np.clip(np.percentile(self.grey[y, x], 40) - self.grey[y, x].astype(np.float64), 0, None) + 1e-6
        )
        return np.array([np.average(x, weights=weight), np.average(y, weights=weight)])


def _grey(rgb: Rgb) -> NDArray[np.uint8]:
    return np.asarray(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), np.uint8)


def _luma(grey: NDArray[np.uint8], at: Signal, reach: float) -> float:
    x, y = (int(v) for v in at)
    r = max(2, int(reach))
    return float(np.median(grey[max(0, y - r) : y + r + 1, max(0, x - r) : x + r + 1]))


def _inside(grey: NDArray[np.uint8], ring: Signal) -> Signal:
    inside = np.zeros(grey.shape, np.uint8)
    cv2.fillPoly(inside, [np.rint(ring).astype(np.int32)], 1)
    return grey[inside > 0].astype(np.float64) if inside.any() else np.zeros(1)


def watch(pictures: Iterable[tuple[float, Rgb]]) -> Watched:
    """Follow the largest face, which begins at rest. Raises ``ValueError`` where it is in too few pictures."""
    mesh = FaceMesh()
    reference: _Reference | None = None

    def measure(rgb: Rgb, face: FaceLandmarks) -> list[float]:
        nonlocal reference
        if reference is None:
            reference = _Reference(rgb, mesh, face)
        return _row(rgb, face, reference)

    rows, lost = face_rows(mesh, pictures, measure, views=_VIEWS)
    table = np.array(rows)
    table[:, 1] = np.maximum(
        table[:, 1] - np.median(table[:_AT_REST, 1]), 0.0
    )  # it reads 4 mm off lips that touch
    shut = table[:, 8] < 0.85
    gaze = table[:, 10:12].copy()
    gaze[np.convolve(shut, np.ones(5), "same") > 0] = np.nan
    times, gap, width = table[:, :3].T
    lids, luma, brows, teeth = (table[:, k] for k in (8, 9, 12, 13))
    head, nose, parallax = table[:, 3:6], table[:, 6:8], table[:, 14:16]
    return Watched(times, gap, width, head, parallax, nose, lids, luma, gaze, brows, teeth, lost)


def _row(rgb: Rgb, face: FaceLandmarks, ref: _Reference) -> list[float]:
    points = face.points.astype(np.float64)
    grey = _grey(rgb)
    moved, *_ = cv2.calcOpticalFlowPyrLK(ref.grey, grey, ref.start, ref.start.copy(), **_FLOW)  # type: ignore[call-overload]
    moved = moved.reshape(-1, 2).astype(np.float64)
    rigid, others = moved[: len(_RIGID)], moved[len(_RIGID) :]
    body = ref.rigid - ref.centre
    weight = np.ones(len(body))
    for _ in range(3):  # what was lost by the flow counts less
        root = np.sqrt(weight)[:, None]
        columns = np.column_stack([body, np.ones(len(body))])
        fit = np.linalg.lstsq(columns * root, rigid * root, rcond=None)[0]
        weight = 1 / (1 + (np.linalg.norm(columns @ fit - rigid, axis=1) / 0.5) ** 2)
    u, _, vt = np.linalg.svd(fit[:3].T, full_matrices=False)
    turn = u @ vt
    swing = (rigid[_TIP] - ref.rigid[_TIP, :2]) / ref.mm / _NECK_MM * [1, -1]
    head = np.degrees([*np.arcsin(np.clip(swing, -1, 1)), np.arctan2(turn[1, 0], turn[0, 0])])
    parallax = np.degrees([-np.arcsin(turn[0, 2]), np.arcsin(turn[1, 2])])
    placed = np.column_stack([ref.others - ref.centre, np.ones(len(ref.others))]) @ fit
    beside = (others - placed) / ref.mm
    gaze = np.degrees(np.arcsin(np.clip(beside[len(_BROWS) :].mean(0) / _EYE_MM, -1, 1)))
    seen = [_inside(grey, np.column_stack([ring - ref.centre, np.ones(16)]) @ fit) for ring in ref.rings]
    lids = np.mean(
        [min(eye.std() / max(open_, 1.0), 1.0) for eye, open_ in zip(seen, ref.contrast, strict=True)]
    )
    cheek = sum(_luma(grey, points[i, :2], 3 * ref.mm) for i in _CHEEKS) / len(_CHEEKS)
    eyes = np.mean([eye.mean() for eye in seen])
    gap = float(np.mean([np.linalg.norm(points[a, :2] - points[b, :2]) for a, b in _INNER])) / ref.mm
    wide = float(np.linalg.norm(points[61, :2] - points[291, :2])) / ref.mm
    return [
        gap, wide, *head, *(rigid[_TIP] / ref.mm), lids, eyes / max(cheek, 1.0), *gaze,
        -float(beside[: len(_BROWS), 1].mean()), _teeth(rgb, points, ref.mm, cheek), *parallax,
    ]  # fmt: skip


def _teeth(rgb: Rgb, points: Signal, mm: float, cheek: float) -> float:
    """The share of the mouth between the lips that is as bright as teeth; 0 where it is shut."""
    inside = np.zeros(rgb.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.rint(points[list(_RING), :2]).astype(np.int32)], 1)
    rim = 2 * round(_RIM_MM * mm) + 1
    inside = np.asarray(cv2.erode(inside, np.ones((rim, rim), np.uint8)), np.uint8)
    seen = rgb[inside > 0].astype(np.float64)
    if len(seen) < 8:
        return 0.0
    luma = seen @ [0.299, 0.587, 0.114]
    pale = (seen.max(1) - seen.min(1)) / np.maximum(seen.max(1), 1) < 0.38
    return float(((luma > _TEETH * cheek) & pale).mean())
