"""What the picture itself says about a face: the corners of its mouth, the folds of its smile, its drawn eyes."""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.portrait.blink import Blinker
from inference_server.avatars.portrait.closing import close_lips
from inference_server.avatars.portrait.corners import cornered
from inference_server.avatars.portrait.eyes import fitted
from inference_server.avatars.portrait.folds import softened
from inference_server.avatars.portrait.framing import EYES
from inference_server.avatars.portrait.landmarks import FaceMesh
from inference_server.avatars.portrait.region import millimetre
from inference_server.avatars.portrait.seam import settled
from tests.support import portraits
from visavis.frames import Rect

Picture = NDArray[np.uint8]
FOLDS = ((142, 206, 216, 212), (371, 426, 436, 432))


@cache
def points() -> NDArray[np.float32]:
    (face,) = FaceMesh().detect(portraits.default(), refine=2)
    return settled(portraits.default(), face.points)


def drawn(half_mm: float, lift_mm: float) -> tuple[Picture, NDArray[np.float32], NDArray[np.float64]]:
    """A dark line between drawn lips that ends ``half_mm`` and ``lift_mm`` from where the mesh sees the
    corners' middle, the mesh's points, and the two ends."""
    mesh = points()
    mm = millimetre(mesh)
    middle = (mesh[61, :2] + mesh[291, :2]) / 2
    picture = np.full_like(portraits.default(), 190)
    ends = middle + np.array([[-half_mm, -lift_mm], [half_mm, -lift_mm]]) * mm
    seam = mesh[[80, 81, 82, 13, 312, 311, 310], :2]
    line = np.rint(np.concatenate([ends[:1], seam, ends[1:]]) * 16).astype(np.int32)
    cv2.polylines(picture, [line], False, (60, 30, 30), round(1.2 * mm), cv2.LINE_AA, 4)
    return picture, mesh, ends


@pytest.mark.parametrize("half", [23.0, 29.0])
def test_corners_go_to_the_ends_of_the_line(half: float) -> None:
    picture, mesh, ends = drawn(half, lift_mm=2.0)
    found = cornered(picture, mesh)[[61, 291], :2]
    assert np.linalg.norm(found - ends, axis=1).max() < 1.5 * millimetre(mesh)


def test_corners_without_a_line_stay() -> None:
    flat = np.full_like(portraits.default(), 190)
    assert (cornered(flat, points()) == points()).all()


def test_lips_between_the_corners_stay_on_the_line() -> None:
    picture, mesh, _ = drawn(26.0, lift_mm=0.5)
    found = cornered(picture, mesh)
    inner = np.rint(found[[95, 191, 324, 415], :2]).astype(int)
    assert picture[inner[:, 1], inner[:, 0]].mean() < 150
    assert (found[[0, 13, 14, 17]] == mesh[[0, 13, 14, 17]]).all()


def lined(colour: tuple[int, int, int]) -> Picture:
    """The default portrait with a dark line where a smile draws its folds."""
    picture = portraits.default().copy()
    for path in FOLDS:
        line = np.rint(points()[list(path), :2]).astype(np.int32)
        cv2.polylines(picture, [line], False, colour, round(2 * millimetre(points())), cv2.LINE_AA)
    return picture


def depth(picture: Picture) -> float:
    """How much darker than the portrait a picture is along the folds."""
    at = np.rint(np.concatenate([points()[list(path), :2] for path in FOLDS])).astype(int)
    before = portraits.default()[at[:, 1], at[:, 0]].astype(float)
    return float((before - picture[at[:, 1], at[:, 0]]).mean())


def test_folds_fill_and_hair_does_not() -> None:
    brown, black = lined((120, 60, 40)), lined((45, 44, 43))
    assert depth(softened(brown, points(), 0.75)) < 0.5 * depth(brown)
    assert depth(softened(black, points(), 0.75)) > 0.8 * depth(black)
    assert (softened(brown, points(), 0.0) == brown).all()
    grey = np.repeat(brown.mean(2, keepdims=True).astype(np.uint8), 3, 2)
    filled = softened(grey, points(), 0.75)
    assert filled.mean() > grey.mean() and (filled.max(2) - filled.min(2)).max() <= 1


def test_folds_go_with_an_open_smile_only() -> None:
    height, width = portraits.default().shape[:2]
    area = Rect(0, 0, width, height)
    brown = lined((120, 60, 40))
    assert close_lips(brown, points(), area) is brown
    opened = points().copy()
    opened[[95, 88, 178, 87, 14, 317, 402, 318, 324], 1] += 6 * millimetre(opened)
    assert depth(close_lips(brown, opened, area)) < 0.6 * depth(brown)


def test_a_black_and_white_mouth_closes_without_colour() -> None:
    height, width = portraits.default().shape[:2]
    grey = np.repeat(portraits.default().mean(2, keepdims=True).astype(np.uint8), 3, 2)
    opened = points().copy()
    opened[[95, 88, 178, 87, 14, 317, 402, 318, 324], 1] += 6 * millimetre(opened)
    closed = close_lips(grey, opened, Rect(0, 0, width, height)).astype(int)
    assert (closed != grey).any()
    assert (closed.max(2) - closed.min(2)).max() <= 1


def whites(picture: Picture) -> int:
    """Pixels of the cartoon's eyes that no skin, ink or hair has."""
    return int((picture.min(2) > 215).sum())


def test_a_cartoon_shuts_its_eyes() -> None:
    cartoon = portraits.cartoon(480)
    (face,) = FaceMesh().detect(cartoon, refine=2)
    blinker = Blinker(cartoon, face.points)
    assert whites(blinker.draw(0.0)) > 500
    assert whites(blinker.draw(1.0)) < 0.12 * whites(blinker.draw(0.0))


def deep_set(brow: float) -> Picture:
    """The default with dark brows ``brow`` eye heights over its lids."""
    picture = portraits.default().astype(np.float32)
    for side in EYES:
        ring = points()[list(side), :2]
        gap = float(np.linalg.norm(ring[4] - ring[12]))
        band = np.zeros(picture.shape[:2], np.float32)
        line = np.rint(ring[:9] - [0, brow * gap]).astype(np.int32)
        cv2.polylines(band, [line], False, 1.0, max(1, int(0.7 * gap)), cv2.LINE_AA)
        picture += band[:, :, None] * (np.array([46.0, 34, 28]) - picture)
    return picture.astype(np.uint8)


def test_a_closed_eye_under_a_near_brow_is_a_lid_and_no_black_hole() -> None:
    shut = Blinker(deep_set(0.5), points()).draw(1.0).astype(np.float64)
    for side, cheek in zip(EYES, (50, 280), strict=True):
        ring = points()[list(side), :2]
        inside = np.zeros(shut.shape[:2], np.uint8)
        cv2.fillPoly(inside, [np.rint(ring.mean(0) + 0.7 * (ring - ring.mean(0))).astype(np.int32)], 1)
        x, y = points()[cheek, :2].astype(int)
        skin = shut[y - 3 : y + 4, x - 3 : x + 4].mean()
        assert shut[inside > 0].mean() > 0.6 * skin


def rings_of(picture: Picture) -> list[NDArray[np.float32]]:
    (face,) = FaceMesh().detect(picture, refine=2)
    return [face.points[list(side), :2] for side in EYES]


@pytest.mark.parametrize("name", ["glasses", "dark_beard"])
def test_eyes_that_end_where_the_mesh_says_keep_its_outline(name: str) -> None:
    picture = portraits.rendered(name)
    rings = rings_of(picture)
    assert all((a == b).all() for a, b in zip(fitted(picture, rings), rings, strict=True))


def test_a_lower_lid_is_where_the_eye_ends() -> None:
    picture = portraits.default()
    for ring, found in zip(rings_of(picture), fitted(picture, rings_of(picture)), strict=True):
        assert (found[:9] == ring[:9]).all()
        lower = (found[9:] - ring[9:])[:, 1] / float(np.linalg.norm(ring[4] - ring[12]))
        assert 0.1 < lower[3] < 0.5 and lower.min() > 0
