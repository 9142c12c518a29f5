"""Built-in faces that bring their own mouths, lids and depth: what is drawn is what was rendered."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.arrays import read_body, write_body
from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait import cast
from inference_server.avatars.portrait.depth import Relief
from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.portrait.motion import HeadMotion
from inference_server.avatars.portrait.region import mouth_region
from inference_server.engines.base import BodyLoop
from tests.support.portraits import default
from visavis.frames import Rect
from visavis.portraits import CAST

NAMES = sorted(path.stem for path in cast.FOLDER.glob("*.npz"))


def picture(name: str) -> NDArray[np.uint8]:
    return load_image(CAST[name].read_bytes())


@cache
def body(name: str, size: int = 256) -> BodyLoop:
    *_, made = make_loop(picture(name), body_id="c", width=size, height=size, fps=Fraction(2), fit="crop")
    assert isinstance(made, BodyLoop)
    return made


def test_faces_are_known_by_their_pixels_and_photographs_are_none() -> None:
    assert NAMES and set(NAMES) <= set(CAST)
    for name in NAMES:
        _, face = cast.of(picture(name))
        assert face is not None and face.name == name
    assert cast.of(default())[1] is None
    assert body("lumi").framing is not None


def test_a_body_on_disk_still_says_whose_it_is(tmp_path: Path) -> None:
    write_body(tmp_path / "b", body("lumi"))
    read = read_body(tmp_path / "b", verify=True)
    assert read.cast == body("lumi").cast in cast.faces()
    assert read.framing is not None and np.array_equal(read.framing, body("lumi").framing)


def swing(name: str, at: NDArray[np.float32], turn: float, known: bool) -> NDArray[np.float32]:
    """How far to the right points of a face come when it turns about the neck, in pixels of 512."""
    still = body(name, 512)
    assert still.framing is not None
    points = np.pad(still.landmarks[0], ((0, 0), (0, 1)))
    face = cast.faces()[still.cast]
    relief = Relief(face, still.framing, points, picture(name).shape[1]) if known else None
    area = Rect(0, 0, 512, 512)
    head = HeadMotion(points, area, mouth_region(points[:, :2], area), relief)
    mx, my = head.maps(np.array([0.37 * turn, 0, 0, turn, 0]))
    assert np.diff(mx, axis=1).min() > 0.2 and np.diff(my, axis=0).min() > 0.2  # nothing folds
    return np.array([-(mx - np.arange(512))[int(y), int(x)] for x, y in at])


@pytest.mark.parametrize("name", NAMES)
def test_a_head_turns_about_its_neck(name: str) -> None:
    """The nose swings furthest, the eyes less, cheeks before the ears and the neck hardly; the background stays."""
    points = body(name, 512).landmarks[0]
    nose, eyes = points[4], points[[33, 263]]
    neck = points[152] + [0, 45]
    corners = np.array([[4, 4], [507, 4]], np.float32)
    tip, left, right, below, *away = swing(name, np.array([nose, *eyes, neck, *corners]), 0.1, True)
    face = float(np.linalg.norm(points[10] - points[152]))
    assert 0.045 * face < tip < 0.08 * face
    assert max(left, right) < 0.8 * tip and abs(below) < 0.35 * tip and np.abs(away).max() < 0.2 * tip
    flat = swing(name, np.array([nose, *eyes]), 0.1, False)
    assert tip - max(left, right) > 1.5 * (flat[0] - max(flat[1:]))
