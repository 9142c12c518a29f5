"""The built-in faces: each is found, fills its picture, and can blink."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.portrait import cast
from inference_server.avatars.portrait.blink import Blinker
from inference_server.avatars.portrait.framing import EYES, frame_picture
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
    files = [*CAST.values(), *cast.FOLDER.glob("*.npz")]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES


def test_lumi_shuts_her_eyes() -> None:
    picture = load_image(CAST["lumi"].read_bytes())
    (face,) = FaceMesh().detect(picture, refine=2)
    picture = frame_picture(picture, face, 512, 512, "crop").rgb
    (face,) = FaceMesh().detect(picture, refine=2)
    blinker = Blinker(picture, face.points)
    assert iris(blinker.draw(0.0), face.points) > 100
    assert iris(blinker.draw(1.0), face.points) < 0.03 * iris(blinker.draw(0.0), face.points)


def iris(picture: NDArray[np.uint8], points: NDArray[np.float32]) -> int:
    """Pixels about the eyes that are more blue than red, as no skin is."""
    around = points[[index for ring in EYES for index in ring], :2]
    (x0, y0), (x1, y1) = around.min(0).astype(int) - 8, around.max(0).astype(int) + 16
    red, _, blue = np.moveaxis(picture[y0:y1, x0:x1].astype(int), 2, 0)
    return int((blue - red > 20).sum())
