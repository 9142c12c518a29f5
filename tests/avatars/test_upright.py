"""Faces on their side, upside down and tilted come out upright, or with one sentence."""

from __future__ import annotations

from fractions import Fraction

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.loop import face_mesh, make_loop
from inference_server.avatars.portrait.framing import LEVEL, MAX_ROLL, frame_picture, roll, speaking_face
from inference_server.avatars.portrait.upright import upright
from inference_server.avatars.video_loop import follow_face
from inference_server.engines.base import BodyLoop, ImageRejected
from tests.support.portraits import default, rendered

Picture = NDArray[np.uint8]


def turned(rgb: Picture, degrees: float, scale: float = 0.75) -> Picture:
    """Clockwise, about its middle; what lies outside is its mirror image."""
    h, w = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D((w / 2, h / 2), -degrees, scale)
    return np.asarray(cv2.warpAffine(rgb, matrix, (w, h), borderMode=cv2.BORDER_REFLECT), np.uint8)


def framed(rgb: Picture, fit: str = "crop") -> Picture:
    rgb, faces = upright(rgb, face_mesh())
    return frame_picture(rgb, speaking_face(faces), 256, 256, fit).rgb  # type: ignore[arg-type]


def shown_roll(rgb: Picture) -> float:
    face = face_mesh().detect(rgb)[0]
    assert face.score > 0.8
    return roll(face)


@pytest.mark.parametrize("quarters", range(4))
@pytest.mark.parametrize("name", ["default", "dark_beard", "glasses", "turned"])
def test_quarter_turns_are_undone_to_the_pixel(name: str, quarters: int) -> None:
    rgb = default() if name == "default" else rendered(name)
    found, faces = upright(np.ascontiguousarray(np.rot90(rgb, quarters)), face_mesh())
    assert np.array_equal(found, rgb) and abs(roll(speaking_face(faces))) < LEVEL


@pytest.mark.parametrize("degrees", [25, 33, 44, 60, 75, 105, 120, 135, 150, 170, 200, 225, 240, 300, 335])
def test_any_turn_comes_out_level(degrees: float) -> None:
    assert abs(shown_roll(framed(turned(default(), degrees)))) < LEVEL + 2


@pytest.mark.parametrize("degrees", [-18, -8, 0, 8, 18])
def test_a_head_that_is_a_little_tilted_stays_so(degrees: float) -> None:
    rgb = turned(default(), degrees)
    assert upright(rgb, face_mesh())[0] is rgb
    assert shown_roll(framed(rgb)) == pytest.approx(degrees, abs=4)


@pytest.mark.parametrize("degrees", [-30, 30])
def test_a_tilted_face_without_room_around_it_is_refused(degrees: float) -> None:
    rgb = turned(default(), degrees)
    face = face_mesh().detect(rgb)[0]
    x, y, w, h = (int(v) for v in face.box)
    tight = rgb[max(y - h // 10, 0) : y + h + h // 10, max(x - w // 10, 0) : x + w + w // 10]
    with pytest.raises(ImageRejected, match=r"tilted by (2|3)\d degrees: turn the picture"):
        framed(np.ascontiguousarray(tight))


def test_a_tilted_picture_cannot_be_shown_whole() -> None:
    with pytest.raises(ImageRejected, match="tilted by 3"):
        framed(turned(default(), 33), "contain")
    assert framed(np.ascontiguousarray(np.rot90(default(), 2)), "contain").any()


def test_a_face_that_no_turn_sets_upright_is_refused() -> None:
    face = face_mesh().detect(turned(default(), 75))[0]
    assert abs(roll(face)) > MAX_ROLL
    with pytest.raises(ImageRejected, match="on its side or upside down: turn the picture"):
        speaking_face([face])


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_a_video_on_its_side_is_refused(quarters: int) -> None:
    frame = np.ascontiguousarray(np.rot90(default(), quarters))
    with pytest.raises(ImageRejected, match="video is on its side or upside down"):
        next(follow_face([frame] * 3, Fraction(25)))  # type: ignore[arg-type]


def test_the_loop_of_an_upside_down_portrait_is_that_of_the_upright_one() -> None:
    loops = []
    for quarters in (0, 2):
        rgb = np.ascontiguousarray(np.rot90(default(), quarters))
        *_, body = make_loop(rgb, body_id="b", width=160, height=160, fps=Fraction(2), fit="crop")
        assert isinstance(body, BodyLoop)
        loops.append(body)
    assert loops[0].sha256 == loops[1].sha256
