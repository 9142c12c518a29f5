"""Faces and their 468 points: BlazeFace (short range) and Face Mesh through OpenCV's DNN module.

Models and licence: ``models/NOTICE``. Anchors, input ranges and the crop around a face follow MediaPipe's
``face_detection_short_range`` and ``face_landmark`` graphs.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.engines.base import ModelMissing

MODELS = Path(__file__).with_name("models")
POINTS = 468
_DETECT, _MESH = 128, 192  # input sides of the two networks
_MARGIN = 1.5  # side of the mesh's square crop over the face box

RIGHT_EYE_OUTER, LEFT_EYE_OUTER = 33, 263
"""Of the person in the picture; the right eye is on the picture's left."""


@dataclass(frozen=True)
class FaceLandmarks:
    """``box``: x, y, width, height in pixels, around the mesh. ``score``: 0..1. ``points``: ``(468, 3)``
    float32, x and y in pixels, z (towards the viewer is negative) in the same scale."""

    box: tuple[float, float, float, float]
    score: float
    points: NDArray[np.float32]

    @classmethod
    def of(cls, points: NDArray[np.float32], score: float) -> FaceLandmarks:
        """The face with these points."""
        low, high = points[:, :2].min(0), points[:, :2].max(0)
        x, y = (float(v) for v in low)
        w, h = (float(v) for v in high - low)
        return cls((x, y, w, h), score, points.astype(np.float32))

    @property
    def height(self) -> float:
        """Forehead (point 10) to chin (point 152), in pixels."""
        return float(np.linalg.norm(self.points[10, :2] - self.points[152, :2]))


class FaceMesh:
    """Finds faces and their points. One instance may be used by several threads; they take turns."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._detector = _network("face_detection_short_range.tflite")
        self._mesh = _network("face_landmark.tflite")
        self._anchors = _anchors()

    def detect(
        self, rgb: NDArray[np.uint8], *, threshold: float = 0.5, refine: int = 1
    ) -> list[FaceLandmarks]:
        """All faces of an upright ``(h, w, 3)`` RGB picture, largest first.

        ``refine``: passes of the mesh, each cropped by the points of the one before; from 2 on, each is the
        mean over slightly turned and scaled crops, which halves the jitter.
        """
        for views in _views(rgb.shape[1], rgb.shape[0]):
            found = [one for view in views for one in self._boxes(rgb, view, threshold)]
            faces: list[FaceLandmarks] = []
            for score, corner, angle, side in _distinct(found):
                face = self._landmarks(rgb, corner, angle, side, score)
                for _ in range(1, refine):
                    face = face and self.follow(rgb, face, views=4)
                if face is not None and not any(_same(face, other) for other in faces):
                    faces.append(face)
            if faces:
                return sorted(faces, key=lambda f: -f.height)
        return []

    def follow(self, rgb: NDArray[np.uint8], face: FaceLandmarks, *, views: int = 1) -> FaceLandmarks | None:
        """The same face in the next picture, by the points in the one before; ``None`` when it is lost.

        ``views``: how many turned and scaled crops (1 to 5) to take the mean of.
        """
        centre, angle, side = _crop_of(face.points)
        seen = [
            self._landmarks(rgb, centre, angle + turn, side * scale, face.score)
            for turn, scale in ((0, 1), (0.06, 1.04), (-0.06, 0.96), (-0.06, 1.04), (0.06, 0.96))[:views]
        ]
        points = [f.points for f in seen if f is not None]
        return (
            FaceLandmarks.of(np.mean(points, 0), min(f.score for f in seen if f is not None))
            if points
            else None
        )

    def _boxes(
        self, rgb: NDArray[np.uint8], view: tuple[int, int, int, int], threshold: float
    ) -> list[_Found]:
        """Detections in a rectangle of the picture (which may reach outside it), in the picture's pixels."""
        x, y, w, h = view
        side = max(w, h)
        scale = _DETECT / side
        left, top = x - (side - w) / 2, y - (side - h) / 2
        tile = _sampled(
            rgb, np.array([[scale, 0, -left * scale], [0, scale, -top * scale]], np.float32), _DETECT
        )
        with self._lock:
            self._detector.setInput(tile.transpose(2, 0, 1)[None] / np.float32(127.5) - 1)
            outputs = self._detector.forward(self._detector.getUnconnectedOutLayersNames())
        raw = next(o for o in outputs if o.shape[-1] == 16).reshape(-1, 16)
        logits = next(o for o in outputs if o.shape[-1] == 1).reshape(-1)
        scores = 1 / (1 + np.exp(-np.clip(logits, -80, 80)))
        found: list[_Found] = []
        for index in np.argsort(-scores):
            if scores[index] < threshold or len(found) >= 64:
                break
            box = raw[index].reshape(8, 2) / _DETECT
            box[[0, *range(2, 8)]] += self._anchors[index]  # centre and six key points; row 1 is the size
            box = box / (scale / _DETECT)
            box[[0, *range(2, 8)]] += np.array([left, top], np.float32)
            eyes = box[3] - box[2]
            found.append(
                (
                    float(scores[index]),
                    box[0],
                    float(np.arctan2(eyes[1], eyes[0])),
                    float(box[1].max()) * _MARGIN,
                )
            )
        return found

    def _landmarks(
        self, rgb: NDArray[np.uint8], centre: NDArray[np.float32], angle: float, side: float, score: float
    ) -> FaceLandmarks | None:
        scale = _MESH / side
        c, s = np.cos(angle) * scale, np.sin(angle) * scale
        half = _MESH / 2
        matrix = np.array(
            [[c, s, half - c * centre[0] - s * centre[1]], [-s, c, half + s * centre[0] - c * centre[1]]],
            np.float32,
        )
        tile = _sampled(rgb, matrix, _MESH)
        with self._lock:
            self._mesh.setInput(tile.transpose(2, 0, 1)[None] / np.float32(255))
            outputs = self._mesh.forward(self._mesh.getUnconnectedOutLayersNames())
        flag = float(next(o for o in outputs if o.size == 1).reshape(-1)[0])
        presence = 1 / (1 + np.exp(-np.clip(flag, -80, 80)))
        if presence < 0.5:
            return None
        local = next(o for o in outputs if o.size == POINTS * 3).reshape(POINTS, 3)
        inverse = cv2.invertAffineTransform(matrix)
        points = np.empty((POINTS, 3), np.float32)
        points[:, :2] = local[:, :2] @ inverse[:, :2].T + inverse[:, 2]
        points[:, 2] = local[:, 2] / scale
        return FaceLandmarks.of(points, min(score, float(presence)))


_Found = tuple[float, NDArray[np.float32], float, float]  # score, centre, angle, side of the crop


def _views(width: int, height: int) -> Iterator[list[tuple[int, int, int, int]]]:
    """Where to look, in turn: the whole picture; from further away, for a face that fills it; in parts, for
    small faces."""
    yield [(0, 0, width, height)]
    yield [(-width // 2, -height // 2, 2 * width, 2 * height)]
    for parts in (2, 4):
        side = int(1.4 * max(height, width) / parts)
        if side < _DETECT // 2:
            return
        tops = np.linspace(0, max(height - side, 0), parts + 1 if height > side else 1)
        lefts = np.linspace(0, max(width - side, 0), parts + 1 if width > side else 1)
        yield [(int(left), int(top), side, side) for top in tops for left in lefts]


def _network(name: str) -> cv2.dnn.Net:
    path = MODELS / name
    if not path.is_file():
        raise ModelMissing(f"The face model {name} is missing: install the package again.")
    engine = {"engine": cv2.dnn.ENGINE_CLASSIC} if hasattr(cv2.dnn, "ENGINE_CLASSIC") else {}
    try:
        return cv2.dnn.readNetFromTFLite(str(path), **engine)
    except cv2.error as error:
        raise ModelMissing(f"The face model {name} cannot be read: install the package again.") from error


def _anchors() -> NDArray[np.float32]:
    """Centres of the 896 anchors: two per cell of a 16x16 grid, six per cell of an 8x8 grid."""
    rows = []
    for cells, copies in ((16, 2), (8, 6)):
        y, x = np.mgrid[0:cells, 0:cells]
        rows.append(np.repeat(np.stack([x, y], -1).reshape(-1, 2), copies, 0) / cells + 0.5 / cells)
    return np.concatenate(rows).astype(np.float32)


def _sampled(rgb: NDArray[np.uint8], matrix: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The picture through ``matrix`` into a square, averaged first where it shrinks by more than two."""
    scale = float(np.hypot(matrix[0, 0], matrix[0, 1]))
    if scale < 0.5:
        factor = 2 * scale
        size = (max(1, round(rgb.shape[1] * factor)), max(1, round(rgb.shape[0] * factor)))
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        matrix = matrix.copy()
        matrix[:, :2] /= factor
    out = cv2.warpAffine(rgb, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(out, np.float32)


def _crop_of(points: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, float]:
    eyes = points[LEFT_EYE_OUTER, :2] - points[RIGHT_EYE_OUTER, :2]
    angle = float(np.arctan2(eyes[1], eyes[0]))
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]], np.float32)
    upright = points[:, :2] @ turn.T
    low, high = upright.min(0), upright.max(0)
    return (turn.T @ ((low + high) / 2)).astype(np.float32), angle, float((high - low).max()) * _MARGIN


def _distinct(found: list[_Found]) -> list[_Found]:
    """The best of each cluster of detections."""
    kept: list[_Found] = []
    for one in sorted(found, key=lambda f: -f[0]):
        if all(np.linalg.norm(one[1] - k[1]) > 0.35 * min(one[3], k[3]) / _MARGIN for k in kept):
            kept.append(one)
    return kept


def _same(a: FaceLandmarks, b: FaceLandmarks) -> bool:
    ax, ay, aw, ah = a.box
    bx, by, bw, bh = b.box
    w = min(ax + aw, bx + bw) - max(ax, bx)
    h = min(ay + ah, by + bh) - max(ay, by)
    return w > 0 and h > 0 and w * h > 0.3 * min(aw * ah, bw * bh)
