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
from inference_server.avatars.portrait.expression import Expression
from inference_server.avatars.portrait.framing import EYES
from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.portrait.landmarks import FaceMesh
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
    assert body.frames.shape == (426, 384, 256) and body.frames.dtype == np.uint8
    assert body.landmarks.shape == (426, 468, 2) and body.motion.shape == (426, 2, 3)
    assert body.reference.shape == (256, 256, 3)
    assert body.sha256 == hashlib.sha256(np.asarray(body.frames).tobytes()).digest()
    assert (body.frame(0) == pack(to_planes(body.reference))).all()


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30), Fraction(30_000, 1001), Fraction(10)])
@pytest.mark.parametrize(("width", "height"), [(512, 512), (1280, 720), (320, 240)])
def test_a_body_has_seventeen_seconds_or_what_fits(fps: Fraction, width: int, height: int) -> None:
    frame = width * height * 3 // 2
    poses = motion.poses(fps, frame)
    n = len(poses.moves)
    assert n % 2 == 0
    pictures = int(poses.order.max()) + 1
    assert pictures * frame <= max(motion.MOST_BYTES, 5 * fps * frame)
    assert 8.5 <= n / fps <= 17.5
    if fps <= 25 and frame <= 512 * 512 * 3 // 2:
        assert len(poses.segments) == len(motion.SEGMENTS)


def test_the_way_back_shows_the_pictures_of_the_way_there() -> None:
    poses = motion.poses(FPS, 1)
    order, n = poses.order, len(poses.moves)
    assert np.array_equal(np.unique(order), np.arange(order.max() + 1)) and len(np.unique(order)) < 0.6 * n
    for start, end in zip(poses.cuts, [*poses.cuts[1:], n], strict=True):
        back = np.arange(start + 1, end)
        same = order[back] == order[back[::-1]]
        assert (same | (poses.lids[back] > 0) | (poses.lids[back[::-1]] > 0)).all()
        assert order[start] == 0


def test_segments_begin_and_end_in_the_pose_of_the_reference() -> None:
    poses = motion.poses(FPS, 1)
    ends = [(cut - 1) % len(poses.moves) for cut in poses.cuts]
    steps = np.abs(np.diff(poses.moves, axis=0)).max(0)
    for cut, end in zip(poses.cuts, ends, strict=True):
        assert not poses.moves[cut].any() and not poses.gaze[cut].any()
        assert not poses.lids[cut] and not poses.brows[cut] and not poses.breath[cut]
        assert (np.abs(poses.moves[end]) <= 0.2 * steps + 1e-9).all()
        assert not poses.lids[end]


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30), Fraction(10)])
def test_segments_tell_what_the_body_does(fps: Fraction) -> None:
    poses = motion.poses(fps, 1)
    assert set(poses.cuts) == {start for _, start in poses.jumps}
    of: dict[str, list[int]] = {}
    for (start, kind), end in zip(poses.segments, [*poses.cuts[1:], len(poses.moves)], strict=True):
        of.setdefault(kind, []).extend(range(start, end))
    pitch, gaze = poses.moves[:, 4], np.hypot(*poses.gaze.T)
    assert pitch[of["nod"]].max() == pitch.max() and pitch[of["lift"]].min() == pitch.min()
    assert min(gaze[of["away"]].max(), gaze[of["glance"]].max()) > 2.2
    assert max(gaze[of[kind]].max() for kind in ("breath", "tilt")) < 1.5


def test_no_two_segments_last_longer_than_three_seconds() -> None:
    longest = sorted(segment.seconds for segment in motion.SEGMENTS)[-2:]
    assert sum(longest) <= 3


def test_heads_turn_nod_and_tilt_and_eyes_stay_within_three_degrees() -> None:
    poses = motion.poses(FPS, 1)
    yaw, pitch, roll = np.degrees(np.ptp(poses.moves[:, [3, 4, 2]], axis=0))
    assert yaw > 6 and pitch > 6 and roll > 2
    assert np.hypot(*poses.gaze.T).max() < 3
    spectrum = np.abs(np.fft.rfft(poses.moves * np.hanning(len(poses.moves))[:, None], axis=0)) ** 2
    quick = np.fft.rfftfreq(len(poses.moves), 1 / 25) > 3
    assert (spectrum[quick].sum(0) < 0.05 * spectrum.sum(0)).all()


def test_eyes_reach_their_widest_softly() -> None:
    asked = np.linspace(0, 9, 200)
    way = np.hypot(*motion._within(np.outer(asked, [0.6, 0.8]), 3.0).T)
    assert way[20] == pytest.approx(asked[20], rel=0.01) and 2.9 < way[-1] < 3
    steps = np.diff(way)
    assert (steps > 0).all() and (np.diff(steps) < 1e-9).all()


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
    assert len(body.jumps) == 14 * 13
    for end, start in body.jumps:
        assert (end + 1) % n != start
        assert float(np.abs(luma(body, end) - luma(body, start)).mean()) <= usual
        assert (body.frame(start) == body.frame(0)).all()


def test_eyes_blink_five_times_and_stay_open_otherwise() -> None:
    body = loop()
    lids = motion.poses(FPS, 1).lids
    assert (np.diff((lids > 0.5).astype(int)) == 1).sum() == 5
    for side in EYES:
        ring = body.landmarks[0][list(side)]
        inside = np.zeros((256, 256), np.uint8)
        cv2.fillPoly(inside, [np.rint(ring).astype(np.int32)], 1)

        def contrast(index: int, eye: NDArray[np.uint8] = inside) -> float:
            shift = body.motion[index]
            return float(luma(body, index)[cv2.warpAffine(eye, shift, (256, 256)) > 0].std())

        shut = max(contrast(int(index)) for index in np.flatnonzero(lids == 1))
        assert shut < 0.6 * min(contrast(0), contrast(40))


def test_eyes_and_brows_move_where_they_are_and_nowhere_else() -> None:
    points = FaceMesh().detect(portrait())[0].points
    height, width = portrait().shape[:2]
    for gaze, brows in ((np.array([3.0, 0.0]), 0.0), (np.zeros(2), 0.01)):
        picture = portrait().copy()
        Expression(points, width, height).draw(picture, gaze, brows)
        rows, _ = np.nonzero(np.abs(picture.astype(int) - portrait()).max(2) > 12)
        assert len(rows) > 50
        lowest = points[[145, 374], 1].max()
        assert rows.max() <= lowest + 2 and rows.min() > points[10, 1] - 0.1 * height
    assert (picture[int(lowest) :] == portrait()[int(lowest) :]).mean() > 0.999


def test_shoulders_breathe_and_the_mouth_does_not() -> None:
    body = loop()
    points = body.landmarks[0]
    region = mouth_region(points, Rect(0, 0, 256, 256))
    head = motion.HeadMotion(np.pad(points, ((0, 0), (0, 1))), Rect(0, 0, 256, 256), region)
    mx, my = head.maps(np.zeros(5), 0.006)
    rows = np.arange(256, dtype=np.float32)[:, None]
    assert np.abs(my - rows)[: region.y + region.height].max() < 1e-3
    assert (my - rows)[-8:].min() > 0.5
    assert np.abs(mx - np.arange(256, dtype=np.float32)).max() < 1e-3


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
