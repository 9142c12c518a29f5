"""Built-in faces that bring their own mouths, lids and depth: what is drawn is what was rendered."""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.arrays import read_body, write_body
from inference_server.avatars.i420 import pack, to_planes
from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait import cast, motion
from inference_server.avatars.portrait.blink import RenderedLids
from inference_server.avatars.portrait.depth import Relief
from inference_server.avatars.portrait.framing import EYES
from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.portrait.lips import Pose
from inference_server.avatars.portrait.region import mouth_region
from inference_server.engines.base import BodyLoop, Prepared
from inference_server.engines.portrait import PortraitEngine
from inference_server.engines.portrait.atlas import POSES, REST
from tests.support.portraits import default
from visavis.frames import Rect, i420_planes
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
    head = motion.HeadMotion(points, area, mouth_region(points[:, :2], area), relief)
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


def test_a_head_whose_depth_is_known_turns_further() -> None:
    still = motion.poses(Fraction(25), 1)
    larger = still.larger()
    assert np.ptp(larger.moves[:, 3]) > 1.1 * np.ptp(still.moves[:, 3])
    assert larger.segments == still.segments and not larger.moves[list(larger.cuts)].any()
    made = body("lumi")
    moves = motion.poses(made.fps, 256 * 256 * 3 // 2).moves
    far = int(np.abs(moves[:, 3]).argmax())
    points = np.pad(made.landmarks[0], ((0, 0), (0, 1)))
    assert made.framing is not None
    relief = Relief(cast.faces()[made.cast], made.framing, points, picture("lumi").shape[1])
    area = Rect(0, 0, 256, 256)
    head = motion.HeadMotion(points, area, mouth_region(points[:, :2], area), relief)
    small, large = (float((head.affine(by * moves[far]) @ [*points[4, :2], 1])[0]) for by in (1.0, 1.15))
    nose = float((made.motion[far] @ [*points[4, :2], 1])[0])
    assert abs(large - small) > 1 and abs(nose - large) < 0.3 * abs(large - small)


@cache
def atlas(name: str, size: int = 256) -> tuple[NDArray[np.uint8], Rect]:
    *_, prepared = PortraitEngine({}).prepare(body(name, size), {})
    assert isinstance(prepared, Prepared)
    return prepared.arrays["atlas"], Rect(*prepared.meta["region"])


def between_the_lips(name: str, pose: int, size: int = 256) -> NDArray[np.float64]:
    """Luma down the middle of a mouth, from nose to chin, over the mouth at rest's darkest."""
    pictures, region = atlas(name, size)
    points = body(name, size).landmarks[0]
    column = int(points[13, 0]) - region.x
    top, bottom = int(points[2, 1]) - region.y, int(points[152, 1]) - region.y

    def down(index: int) -> NDArray[np.float64]:
        luma = i420_planes(pictures[index], region.width, region.height)[0]
        return luma[top:bottom, column - 1 : column + 2].astype(np.float64).mean(1)

    return down(pose) / down(REST).min()


MOUTHS = [name for name in NAMES if any(f.name == name and f.mouths for f in cast.faces().values())]


@pytest.mark.parametrize("name", MOUTHS)
def test_mouths_are_the_rendered_ones(name: str) -> None:
    pictures, region = atlas(name)
    x, y, w, h = region
    rest = pack(to_planes(np.ascontiguousarray(body(name).reference[y : y + h, x : x + w])))
    assert (pictures[REST] == rest).all()
    shut, small, wide = (
        POSES.index(pose) for pose in (Pose(0.0, 0.0, press=1.0), Pose(0.27, 0.0), Pose(1.0, 0.0))
    )
    open_rows = [(between_the_lips(name, pose) < 0.8).sum() for pose in (shut, small, wide)]
    assert open_rows[0] == 0 and open_rows[2] > 0 and open_rows[1] <= open_rows[2]
    luma = np.array([i420_planes(p, w, h)[0] for p in pictures], np.int16)
    for edge in (luma[:, 0], luma[:, -1], luma[:, :, 0], luma[:, :, -1]):
        assert np.abs(edge - edge[REST]).max() <= 1


@pytest.mark.parametrize("name", MOUTHS)
def test_teeth_are_light_and_have_gaps(name: str) -> None:
    """The lightest row above the dark of a wide mouth, a quarter of the mouth to either side of its middle."""
    pictures, region = atlas(name, 512)
    points = body(name, 512).landmarks[0] - [region.x, region.y]
    mouth = float(np.linalg.norm(points[61] - points[291]))
    x, y = points[13]
    luma = i420_planes(pictures[POSES.index(Pose(1.0, 1.0))], region.width, region.height)[0].astype(float)
    rows = luma[int(y - 0.05 * mouth) : int(y + 0.2 * mouth), int(x - mouth / 4) : int(x + mouth / 4)]
    dark = int(rows.mean(1).argmin())
    teeth = max(rows[max(0, dark - int(mouth / 10)) : dark], key=np.mean)
    assert teeth.mean() > 155
    even = cv2.GaussianBlur(teeth[None], (0, 0), 0.05 * mouth)[0]
    assert (teeth / even).std() > 0.035


@pytest.mark.parametrize("size", [(320, 240), (640, 360), (1280, 720)])
def test_rendered_mouths_fit_any_size(size: tuple[int, int]) -> None:
    width, height = size
    *_, still = make_loop(
        picture(MOUTHS[0]), body_id="c", width=width, height=height, fps=Fraction(1), fit="crop"
    )
    assert isinstance(still, BodyLoop) and still.framing is not None
    *_, prepared = PortraitEngine({}).prepare(still, {})
    assert isinstance(prepared, Prepared)
    region = Rect(*prepared.meta["region"])
    wide = prepared.arrays["atlas"][POSES.index(Pose(1.0, 0.0))]
    change = np.abs(wide.astype(int) - prepared.arrays["atlas"][REST])[: region.height]
    rows, columns = np.nonzero(change > 40)
    middle = still.landmarks[0][13] - [region.x, region.y]
    mouth = float(np.linalg.norm(still.landmarks[0][61] - still.landmarks[0][291]))
    assert abs(columns.mean() - middle[0]) < 0.15 * mouth
    assert 0.3 * mouth < np.ptp(columns) < 2.2 * mouth and abs(rows.mean() - middle[1]) < 0.8 * mouth


def lids_of(name: str) -> tuple[BodyLoop, cast.Sheet, RenderedLids]:
    """A body, its sheet of lids, and what draws them."""
    still = body(name, 512)
    sheet = cast.faces()[still.cast].lids
    assert sheet is not None and still.framing is not None
    return still, sheet, RenderedLids(still.reference, sheet, still.framing)


@pytest.mark.parametrize("name", NAMES)
def test_rendered_lids_shut_and_leave_an_open_eye_alone(name: str) -> None:
    still, _, lids = lids_of(name)
    assert (lids.draw(0.0) == still.reference).all()

    def contrast(shut: float) -> float:
        rings = [still.landmarks[0][list(ring)] for ring in EYES]
        inside = np.zeros((512, 512), np.uint8)
        for ring in rings:
            cv2.fillPoly(inside, [np.rint(ring.mean(0) + 0.85 * (ring - ring.mean(0))).astype(np.int32)], 1)
        grey = cv2.cvtColor(lids.draw(shut), cv2.COLOR_RGB2GRAY)
        return float(grey[inside > 0].astype(float).std())

    half, shut = contrast(0.5), contrast(1.0)
    assert shut < 0.5 * contrast(0.0) and shut < half


@pytest.mark.parametrize("name", NAMES)
def test_lashes_are_never_drawn_twice(name: str) -> None:
    _, sheet, lids = lids_of(name)
    rendered = {lids.draw(shut).tobytes() for shut in (0.0, *sheet.values.ravel())}
    assert len(rendered) == 6
    assert all(lids.draw(shut).tobytes() in rendered for shut in (0.07, 0.3, 0.52, 0.7, 0.9, 0.97))
