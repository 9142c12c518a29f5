"""The built-in faces: each is found, fills its picture, and can blink."""

from __future__ import annotations

import numpy as np
import pytest

from inference_server.avatars.portrait.blink import Blinker
from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.portrait.landmarks import FaceMesh
from visavis.portraits import CAST, DEFAULT

LEAST = 200  # pixels from forehead to chin: 240 at the size of calls
MOST_BYTES = 25_000_000


@pytest.mark.parametrize("name", CAST)
def test_a_built_in_face_suits_the_engine(name: str) -> None:
    picture = load_image(CAST[name].read_bytes())
    (face,) = FaceMesh().detect(picture, refine=2)
    points = face.points[:, :2]
    assert np.linalg.norm(points[10] - points[152]) > LEAST
    middle = points.mean(0) / picture.shape[1]
    assert abs(middle[0] - 0.5) < 0.05 and 0.3 < middle[1] < 0.6
    blinker = Blinker(picture, face.points)
    assert blinker.any
    changed = np.abs(blinker.draw(1.0).astype(int) - picture).max(2) > 20
    for side in (slice(None, picture.shape[1] // 2), slice(picture.shape[1] // 2, None)):
        assert changed[:, side].sum() > 100


def test_what_ships_is_small() -> None:
    assert DEFAULT in CAST.values()
    assert sum(path.stat().st_size for path in CAST.values()) < MOST_BYTES
