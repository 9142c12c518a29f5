"""Faces and their points, on the portrait that Visavis ships."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.portrait.framing import eye_opening, frame_picture, speaking_face, yaw
from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.portrait.landmarks import FaceLandmarks, FaceMesh
from inference_server.avatars.portrait.seam import settled
from inference_server.engines.base import ImageRejected
from tests.support.portraits import IRIS

Picture = NDArray[np.uint8]


@cache
def portrait() -> Picture:
    return load_image(IRIS.read_bytes())


@cache
def mesh() -> FaceMesh:
    return FaceMesh()


def scaled(picture: Picture, factor: float) -> Picture:
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


def test_one_face_with_its_features_in_order() -> None:
    (face,) = mesh().detect(portrait(), refine=2)
    points = face.points
    assert points.shape == (468, 3) and points.dtype == np.float32
    heights = [float(points[i, 1]) for i in (10, 168, 1, 13, 152)]  # forehead, nose bridge, tip, lips, chin
    assert heights == sorted(heights)
    assert points[33, 0] < points[133, 0] < points[362, 0] < points[263, 0]
    assert abs(yaw(face)) < 8 and face.score > 0.5
    assert all(eye_opening(points, side) > 0.2 for side in (0, 1))


def test_lips_that_touch_have_no_gap() -> None:
    (face,) = mesh().detect(portrait(), refine=2)
    points = settled(portrait(), face.points)
    assert float(np.abs(points[14, :2] - points[13, :2]).max()) < 0.1
    assert float(np.abs(points[13, :2] - face.points[13, :2]).max()) < 0.04 * face.height
    opened = portrait().copy()
    (low, high), (left, right) = face.points[[13, 14], 1], face.points[[80, 310], 0]
    opened[int(low) : int(high), int(left) : int(right)] = (30, 10, 10)
    assert (settled(opened, face.points) == face.points).all()


def test_points_move_with_the_picture() -> None:
    (face,) = mesh().detect(portrait(), refine=2)
    turned = cv2.getRotationMatrix2D((portrait().shape[1] / 2, portrait().shape[0] / 2), 12, 0.85)
    moved = cv2.warpAffine(portrait(), turned, portrait().shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    (found,) = mesh().detect(np.asarray(moved, np.uint8), refine=2)
    expected = face.points[:, :2] @ turned[:, :2].T + turned[:, 2]
    assert np.abs(found.points[:, :2] - expected).mean() < 0.012 * face.height


def test_following_needs_no_detector() -> None:
    (face,) = mesh().detect(portrait(), refine=2)
    again = mesh().follow(portrait(), face)
    assert again is not None
    assert np.abs(again.points[:, :2] - face.points[:, :2]).mean() < 0.012 * face.height


def test_a_small_face_in_a_large_picture_and_one_that_fills_it() -> None:
    (face,) = mesh().detect(portrait())
    wide = np.full((1400, 1800, 3), 90, np.uint8)
    small = scaled(portrait(), 100 / face.height)
    wide[700 : 700 + small.shape[0], 1200 : 1200 + small.shape[1]] = small
    (found,) = mesh().detect(wide)
    assert abs(found.height - 100) < 15
    x, y, w, h = (int(v) for v in face.box)
    close = np.ascontiguousarray(portrait()[y - h // 12 : y + h + h // 12, x - w // 12 : x + w + w // 12])
    assert len(mesh().detect(close)) == 1


def test_no_face_is_said_clearly() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)
    with pytest.raises(ImageRejected, match="No face"):
        speaking_face(mesh().detect(noise))


def test_two_equal_faces_are_refused_and_a_smaller_second_one_is_not() -> None:
    pair = np.hstack([portrait(), portrait()])
    with pytest.raises(ImageRejected, match="two faces"):
        speaking_face(mesh().detect(pair))
    child = np.full_like(portrait(), 90)
    small = scaled(portrait(), 0.55)
    child[-small.shape[0] :, : small.shape[1]] = small
    assert speaking_face(mesh().detect(np.hstack([portrait(), child]))).box[0] < portrait().shape[1]


def test_a_face_under_80_pixels_is_refused() -> None:
    (face,) = mesh().detect(portrait())
    with pytest.raises(ImageRejected, match="pixels high and needs 80"):
        speaking_face(mesh().detect(scaled(portrait(), 64 / face.height)))


def turned(face: FaceLandmarks, degrees: float) -> FaceLandmarks:
    angle = np.radians(degrees)
    centre = face.points.mean(0)
    points = face.points - centre
    x = np.cos(angle) * points[:, 0] + np.sin(angle) * points[:, 2]
    z = -np.sin(angle) * points[:, 0] + np.cos(angle) * points[:, 2]
    return FaceLandmarks(
        face.box, face.score, (np.stack([x, points[:, 1], z], 1) + centre).astype(np.float32)
    )


def test_a_profile_is_refused_and_a_turned_head_is_not() -> None:
    (face,) = mesh().detect(portrait())
    assert speaking_face([turned(face, 25)]) is not None
    for degrees in (-65, 65):
        with pytest.raises(ImageRejected, match="from the side"):
            speaking_face([turned(face, degrees)])


def test_a_face_that_would_be_shown_too_small_is_refused() -> None:
    wide = np.full((700, 3000, 3), 90, np.uint8)
    wide[:480, :480] = scaled(portrait(), 480 / portrait().shape[0])[:480, :480]
    with pytest.raises(ImageRejected, match="320x240"):
        frame_picture(wide, mesh().detect(wide)[0], 320, 240, "contain")
