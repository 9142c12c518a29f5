"""Which face speaks, and where it stands in the picture that goes out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.landmarks import FaceLandmarks
from inference_server.engines.base import ImageRejected
from visavis.frames import Rect

Fit = Literal["crop", "contain"]
MIN_FACE = 80  # pixels, forehead to chin, in the picture as uploaded
MIN_SHOWN = 40  # pixels, forehead to chin, in the picture as shown
SECOND_FACE = 0.75  # of the largest face's height: from there on it is not clear whom to animate
MAX_YAW = 40.0  # degrees
LEVEL = 20.0  # degrees of roll that are shown as they are
MAX_ROLL = 45.0  # degrees; beyond them a picture is on its side
MIN_COVERED = 0.9  # share of a turned picture that must be the uploaded one
HEADROOM = 2.15  # heights of the cropped picture over the face's

EYES = (
    (33, 246, 161, 160, 159, 158, 157, 173, 133, 155, 154, 153, 145, 144, 163, 7),
    (263, 466, 388, 387, 386, 385, 384, 398, 362, 382, 381, 380, 374, 373, 390, 249),
)


def speaking_face(faces: list[FaceLandmarks]) -> FaceLandmarks:
    """The one face to animate. Raises :class:`ImageRejected` and says why there is none."""
    if not faces:
        raise ImageRejected(
            "No face was found: use a picture that shows one face from the front, not in profile, well lit."
        )
    face = faces[0]
    if len(faces) > 1 and faces[1].height > SECOND_FACE * face.height:
        raise ImageRejected(
            "There are two faces of about the same size: crop the picture so that one face is clearly the largest."
        )
    if face.height < MIN_FACE:
        raise ImageRejected(
            f"The face is only {face.height:.0f} pixels high and needs {MIN_FACE}: "
            "use a picture taken from nearer or with more pixels."
        )
    if abs(yaw(face)) > MAX_YAW:
        raise ImageRejected(
            "The face is seen from the side: use a picture in which it looks towards the camera."
        )
    if abs(roll(face)) > MAX_ROLL:
        raise ImageRejected(
            "The face is on its side or upside down: turn the picture so that the eyes are level."
        )
    return face


def yaw(face: FaceLandmarks) -> float:
    """Degrees that the head is turned; 0 looks at the camera."""
    across = face.points[454] - face.points[234]
    return float(np.degrees(np.arctan2(across[2], np.hypot(across[0], across[1]))))


def roll(face: FaceLandmarks) -> float:
    """Degrees that the head is turned clockwise in the picture, by its eyes and by its forehead and chin."""
    eyes = face.points[263, :2] - face.points[33, :2]
    down = face.points[152, :2] - face.points[10, :2]
    x, y = eyes / max(float(np.linalg.norm(eyes)), 1e-6) + np.array([down[1], -down[0]]) / max(
        float(np.linalg.norm(down)), 1e-6
    )
    return float(np.degrees(np.arctan2(y, x)))


@dataclass(frozen=True)
class Framed:
    """``rgb``: ``(height, width, 3)``. ``inner``: where the picture is; outside it are the letterbox's bars.
    ``affine``: ``(2, 3)``, a similarity from the uploaded picture's pixels to these."""

    rgb: NDArray[np.uint8]
    inner: Rect
    affine: NDArray[np.float32]


def frame_picture(rgb: NDArray[np.uint8], face: FaceLandmarks, width: int, height: int, fit: Fit) -> Framed:
    """The picture at its output size, with a face that is not level turned upright where enough is around it.

    Raises :class:`ImageRejected` where the face would be too small, or cannot be turned.
    """
    tilt = roll(face)
    if abs(tilt) <= LEVEL:
        affine, inner = placement(rgb.shape[1], rgb.shape[0], face, width, height, fit)
    else:
        affine, inner = _level_placement(rgb, face, tilt, width, height, fit)
    shown = face.height * scale_of(affine)
    if shown < MIN_SHOWN:
        raise ImageRejected(
            f"In a {width}x{height} picture this face would be {shown:.0f} pixels high: "
            "let the picture be cropped to the face, or use a larger size."
        )
    return Framed(render(rgb, affine, inner, width, height), inner, affine)


def scale_of(affine: NDArray[np.float32]) -> float:
    """How many output pixels one of the picture's becomes."""
    return float(np.hypot(affine[0, 0], affine[1, 0]))


def _level_placement(
    rgb: NDArray[np.uint8], face: FaceLandmarks, tilt: float, width: int, height: int, fit: Fit
) -> tuple[NDArray[np.float32], Rect]:
    h, w = rgb.shape[:2]
    c, s = np.cos(np.radians(tilt)), np.sin(np.radians(tilt))
    turn = np.array([[c, s], [-s, c]])
    corners = np.array([[0, 0], [w, 0], [0, h], [w, h]]) @ turn.T
    low, high = corners.min(0), corners.max(0)
    points = face.points.copy()
    points[:, :2] = face.points[:, :2] @ turn.T - low
    level = FaceLandmarks.of(points, face.score)
    room = np.ceil(high - low).astype(int)
    placed, inner = placement(int(room[0]), int(room[1]), level, width, height, fit)
    linear = placed[:, :2] @ turn
    affine = np.hstack([linear, (placed[:, 2] - placed[:, :2] @ low)[:, None]]).astype(np.float32)
    covered = cv2.warpAffine(np.ones((h, w), np.float32), affine, (width, height), flags=cv2.INTER_NEAREST)
    if fit == "contain" or covered.mean() < MIN_COVERED:
        raise ImageRejected(
            f"The face is tilted by {abs(tilt):.0f} degrees: turn the picture so that the eyes are level, or use "
            "one with more room around the head."
        )
    return affine, inner


def placement(
    picture_width: int, picture_height: int, face: FaceLandmarks, width: int, height: int, fit: Fit
) -> tuple[NDArray[np.float32], Rect]:
    """The affine from the uploaded picture to the output, and the rectangle that it covers there."""
    if fit == "contain":
        scale = min(width / picture_width, height / picture_height)
        w, h = (max(2, int(scale * v + 0.5) // 2 * 2) for v in (picture_width, picture_height))
        inner = Rect((width - w) // 4 * 2, (height - h) // 4 * 2, w, h)
        sx, sy = w / picture_width, h / picture_height
        matrix = [[sx, 0, inner.x + sx / 2 - 0.5], [0, sy, inner.y + sy / 2 - 0.5]]
        return np.array(matrix, np.float32), inner
    chin, brow = face.points[152, :2], face.points[10, :2]
    crop_h = HEADROOM * max(face.height, 0.95 * face.box[3])
    crop_h = max(crop_h, 1.9 * face.box[2] * height / width)
    aspect = width / height
    # a picture that is nearly large enough is cropped tighter rather than padded
    room = min(picture_height, picture_width / aspect)
    if crop_h > room:
        crop_h = max(room, 0.75 * crop_h)
    crop_w = crop_h * aspect
    cx, cy = (float(v) for v in brow + 0.56 * (chin - brow))
    left = _clamped(cx - crop_w / 2, crop_w, picture_width)
    top = _clamped(cy - 0.5 * crop_h, crop_h, picture_height)
    scale = height / crop_h
    matrix = [
        [scale, 0, (0.5 - left) * scale - 0.5],
        [0, scale, (0.5 - top) * scale - 0.5],
    ]
    return np.array(matrix, np.float32), Rect(0, 0, width, height)


def _clamped(start: float, length: float, available: float) -> float:
    if length >= available:
        return (available - length) / 2
    return min(max(start, 0.0), available - length)


def render(
    rgb: NDArray[np.uint8], affine: NDArray[np.float32], inner: Rect, width: int, height: int
) -> NDArray[np.uint8]:
    """The picture through the affine; what lies outside it is its blurred mirror image (crop) or black."""
    scale = scale_of(affine)
    if scale < 0.5:
        factor = 2 * scale
        size = tuple(max(1, round(v * factor)) for v in rgb.shape[1::-1])
        fx, fy = size[0] / rgb.shape[1], size[1] / rgb.shape[0]
        rgb = np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
        shrink = np.array([[1 / fx, 0, 0.5 / fx - 0.5], [0, 1 / fy, 0.5 / fy - 0.5], [0, 0, 1]], np.float64)
        affine = (np.vstack([affine, [0, 0, 1]]) @ shrink)[:2].astype(np.float32)
        scale = 0.5
    if scale < 0.9:
        rgb = np.asarray(cv2.GaussianBlur(rgb, (0, 0), 0.35 / scale), np.uint8)
    out = cv2.warpAffine(rgb, affine, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)
    if inner != (0, 0, width, height):
        boxed = np.zeros((height, width, 3), np.uint8)
        x, y, w, h = inner
        boxed[y : y + h, x : x + w] = out[y : y + h, x : x + w]
        return boxed
    covered = cv2.warpAffine(
        np.ones(rgb.shape[:2], np.float32), affine, (width, height), flags=cv2.INTER_LINEAR
    )
    if covered.min() > 0.5:
        return np.asarray(out, np.uint8)
    soft = cv2.GaussianBlur(out, (0, 0), height / 24)
    weight = cv2.GaussianBlur(cv2.erode(covered, np.ones((9, 9))), (0, 0), 4)[:, :, None]
    return np.asarray(np.rint(out * weight + soft * (1 - weight)), np.uint8)


def eye_opening(points: NDArray[np.float32], side: int) -> float:
    """Height of the eye's opening over its width; a closed eye has less than about 0.1."""
    ring = points[list(EYES[side]), :2]
    upper, lower = ring[1:8], ring[:8:-1]
    return float(np.linalg.norm(upper - lower, axis=1).max() / np.linalg.norm(ring[0] - ring[8]))
