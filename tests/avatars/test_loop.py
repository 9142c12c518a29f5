"""The body loop, made from the portrait that Visavis ships."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from fractions import Fraction
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inference_server.avatars.i420 import half, pack, to_planes
from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait import motion
from inference_server.avatars.portrait.framing import EYES
from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.portrait.region import mouth_region
from inference_server.avatars.video_loop import make_video_loop
from inference_server.engines.base import BodyLoop, ImageRejected
from tests.support.portraits import IRIS
from visavis.frames import Rect, i420_planes
from visavis.rgb import to_rgb

FPS = Fraction(25)


@cache
def portrait() -> NDArray[np.uint8]:
    return load_image(IRIS.read_bytes())


def finished(steps: Iterator[float | BodyLoop]) -> BodyLoop:
    progress = list(steps)
    numbers = [p for p in progress if isinstance(p, float)]
    assert numbers == sorted(numbers) and numbers[0] >= 0 and numbers[-1] <= 1
    loop = progress[-1]
    assert isinstance(loop, BodyLoop)
    return loop


@cache
def loop() -> BodyLoop:
    return finished(make_loop(portrait(), body_id="b", width=256, height=256, fps=FPS, fit="crop"))


def test_shape_digest_and_length() -> None:
    body = loop()
    assert body.frames.shape == (126, 384, 256) and body.frames.dtype == np.uint8
    assert body.landmarks.shape == (126, 468, 2) and body.motion.shape == (126, 2, 3)
    assert body.reference.shape == (256, 256, 3)
    assert body.sha256 == hashlib.sha256(body.frames.tobytes()).digest()
    assert (body.frame(0) == pack(to_planes(body.reference))).all()


@pytest.mark.parametrize(
    "fps", [Fraction(25), Fraction(30), Fraction(30_000, 1001), Fraction(10), Fraction(1)]
)
def test_a_loop_is_about_five_seconds_and_even(fps: Fraction) -> None:
    n = motion.loop_length(fps)
    assert n % 2 == 0 and (abs(n / fps - 5) <= 1 / fps or n == 8)
    assert len(motion.poses(fps).moves) == n


def test_the_same_bits_every_time() -> None:
    again = finished(make_loop(portrait(), body_id="b", width=256, height=256, fps=FPS, fit="crop"))
    assert again.sha256 == loop().sha256


def luma(body: BodyLoop, index: int) -> NDArray[np.float32]:
    return i420_planes(body.frame(index), body.width, body.height)[0].astype(np.float32)


def test_it_closes_and_jumps_without_a_step() -> None:
    """Across the seam and every jump the picture changes no more than between neighbours."""
    body = loop()
    n = len(body)
    usual = max(float(np.abs(luma(body, i) - luma(body, i + 1)).mean()) for i in range(n - 1))
    assert usual > 0.05  # it moves
    assert float(np.abs(luma(body, n - 1) - luma(body, 0)).mean()) <= usual
    assert len(body.jumps) == 6
    for end, start in body.jumps:
        assert (end + 1) % n != start
        assert float(np.abs(luma(body, end) - luma(body, start)).mean()) <= usual
        assert (body.frame(start) == body.frame(0)).all()


def test_eyes_blink_twice_and_stay_open_otherwise() -> None:
    body = loop()
    lids = motion.poses(FPS).lids
    assert (np.diff((lids > 0.5).astype(int)) == 1).sum() == 2
    for side in EYES:
        ring = body.landmarks[0][list(side)]
        inside = np.zeros((256, 256), np.uint8)
        cv2.fillPoly(inside, [np.rint(ring).astype(np.int32)], 1)

        def contrast(index: int, eye: NDArray[np.uint8] = inside) -> float:
            shift = body.motion[index]
            return float(luma(body, index)[cv2.warpAffine(eye, shift, (256, 256)) > 0].std())

        shut = max(contrast(int(index)) for index in np.flatnonzero(lids == 1))
        assert shut < 0.6 * min(contrast(0), contrast(40))


def test_landmarks_follow_the_motion() -> None:
    body = loop()
    index = int(np.argmax(np.abs(body.motion[:, :, 2]).sum(1)))
    expected = body.landmarks[0] @ body.motion[index, :, :2].T + body.motion[index, :, 2]
    assert np.abs(body.landmarks[index] - expected).max() < 1e-3


def test_around_the_mouth_the_body_moves_exactly_by_its_affine() -> None:
    """What an engine draws in the reference and moves by ``motion`` lies where the body is."""
    body = loop()
    region = mouth_region(body.landmarks[0], Rect(0, 0, 256, 256))
    inside = (
        slice(region.y + 8, region.y + region.height - 8),
        slice(region.x + 8, region.x + region.width - 8),
    )
    still = to_planes(body.reference)
    for index in (8, 20, 60, 100):
        matrices = (body.motion[index], half(body.motion[index]), half(body.motion[index]))
        frame = i420_planes(body.frame(index), 256, 256)
        for plane in range(3):
            moved = cv2.warpAffine(
                still[plane],
                matrices[plane].astype(np.float64),
                still[plane].shape[::-1],
                flags=cv2.INTER_CUBIC,
            )
            rows, columns = (slice(s.start // (1 + (plane > 0)), s.stop // (1 + (plane > 0))) for s in inside)
            difference = np.abs(moved[rows, columns].astype(int) - frame[plane][rows, columns])
            assert difference.max() <= 6 and difference.mean() < 0.5


def test_letterbox_keeps_its_bars_still() -> None:
    wide = finished(make_loop(portrait(), body_id="b", width=400, height=240, fps=Fraction(5), fit="contain"))
    assert wide.frames.shape[1:] == (360, 400)
    for index in range(len(wide)):
        y, u, v = i420_planes(wide.frame(index), 400, 240)
        assert (y[:, :78] == 16).all() and (y[:, -78:] == 16).all()
        assert (u[:, :38] == 128).all() and (v[:, -38:] == 128).all()


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (300, 300), (640, 360)])
def test_any_even_size(size: tuple[int, int]) -> None:
    body = finished(
        make_loop(portrait(), body_id="b", width=size[0], height=size[1], fps=Fraction(2), fit="crop")
    )
    assert body.frames.shape[1:] == (size[1] * 3 // 2, size[0])
    points = body.landmarks[0]
    assert (points[[10, 152], 1] > 0).all() and (points[[10, 152], 1] < size[1]).all()


def test_odd_sizes_and_pictures_without_a_face_are_refused() -> None:
    with pytest.raises(ImageRejected, match="320x240"):
        list(make_loop(portrait(), body_id="b", width=321, height=241, fps=FPS, fit="crop"))
    with pytest.raises(ImageRejected, match="No face"):
        list(
            make_loop(
                np.full((200, 200, 3), 99, np.uint8), body_id="b", width=256, height=256, fps=FPS, fit="crop"
            )
        )


def test_a_video_plays_there_and_back() -> None:
    frames = []
    for index in range(8):
        shift = np.array([[1, 0, 2.0 * index], [0, 1, 1.0 * index]])
        moved = cv2.warpAffine(portrait(), shift, portrait().shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        frames.append(np.asarray(moved, np.uint8))
    body = finished(make_video_loop(frames, body_id="v", width=256, height=256, fps=FPS, fit="crop"))
    assert len(body) == 14
    assert (body.frames[1] == body.frames[13]).all() and (body.frames[6] == body.frames[8]).all()
    moved = body.landmarks[6].mean(0) - body.landmarks[1].mean(0)
    assert moved[0] > 1.5 and 0.3 < moved[1] / moved[0] < 0.7
    with pytest.raises(ImageRejected, match="two frames"):
        list(make_video_loop(frames[:1], body_id="v", width=256, height=256, fps=FPS, fit="crop"))


def test_i420_agrees_with_the_way_back() -> None:
    rng = np.random.default_rng(3)
    picture = cv2.GaussianBlur(rng.integers(0, 255, (64, 64, 3), np.uint8), (0, 0), 6)
    back = to_rgb(pack(to_planes(np.asarray(picture, np.uint8))), 64, 64)
    assert np.abs(back.astype(int) - picture).mean() < 2.5
