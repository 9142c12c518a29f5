"""The loop of body frames: what is seen while nobody speaks.

A portrait becomes some seventeen seconds of small movements of head, eyes and shoulders; ``video_loop.py`` makes
the loop of a video.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.i420 import Planes, to_planes
from inference_server.avatars.portrait import cast, motion
from inference_server.avatars.portrait.blink import Blinker, RenderedLids
from inference_server.avatars.portrait.closing import close_lips
from inference_server.avatars.portrait.depth import Relief
from inference_server.avatars.portrait.expression import Expression
from inference_server.avatars.portrait.framing import Fit, frame_picture, scale_of, speaking_face
from inference_server.avatars.portrait.landmarks import FaceLandmarks, FaceMesh
from inference_server.avatars.portrait.region import mouth_region
from inference_server.avatars.portrait.seam import settled
from inference_server.avatars.portrait.upright import upright
from inference_server.engines.base import BodyLoop, ImageRejected
from visavis.frames import SharedFrames, digest, i420_planes, inside

LOOP_BUILD = "loop-20"
"""Part of every ``body_id``: raise it with every change of the loop's pixels."""

face_mesh = functools.cache(FaceMesh)
"""One :class:`FaceMesh` for the process (its networks take 40 ms to read)."""


def even(width: int, height: int) -> None:
    """Raise :class:`ImageRejected` where 4:2:0 pictures cannot have this size."""
    if width % 2 or height % 2:
        raise ImageRejected(
            f"The picture's size {width}x{height} must be even: use {width & ~1}x{height & ~1}."
        )


def make_loop(
    image: NDArray[np.uint8], *, body_id: str, width: int, height: int, fps: Fraction, fit: Fit
) -> Iterator[float | BodyLoop]:
    """A portrait ``(h, w, 3)`` RGB to its loop; yields progress 0..1 between short steps, at last the loop.

    Raises :class:`ImageRejected` with a sentence for whoever uploaded the picture.
    """
    even(width, height)
    yield 0.0
    mesh = face_mesh()
    key, built_in = cast.of(image)
    image, faces = upright(image, mesh)
    face = speaking_face(faces)
    yield 0.03
    framed = frame_picture(image, face, width, height, fit)
    yield 0.05
    points = _points_in(mesh, framed.rgb, face, framed.affine)
    yield 0.08
    area = framed.inner
    poses = motion.poses(fps, width * height * 3 // 2)
    relief = Relief(built_in, framed.affine, points, image.shape[1]) if built_in else None
    if relief:
        poses = poses.larger()
    head = motion.HeadMotion(points, area, mouth_region(points[:, :2], area), relief)
    yield 0.1
    points = settled(framed.rgb, points)
    reference = framed.rgb if built_in and built_in.mouths else close_lips(framed.rgb, points, area)
    original = None if reference is framed.rgb else framed.rgb
    if reference is not framed.rgb:
        points = settled(reference, _again(mesh, reference, points, face))
    yield 0.11
    blinker: Blinker | RenderedLids
    if built_in and built_in.lids:
        blinker = RenderedLids(reference, built_in.lids, framed.affine)
    else:
        blinker = Blinker(reference, points)
    expression = Expression(points, width, height)
    rest = inside(to_planes(reference), area)
    count, order = len(poses.moves), poses.order
    pictures = np.empty((int(order.max()) + 1, height * 3 // 2, width), np.uint8)
    pictures[:, :height] = 16
    pictures[:, height:] = 128
    marks = np.empty((count, len(points), 2), np.float32)
    affines = np.empty((count, 2, 3), np.float32)
    drawn = 0
    for index in range(count):
        shut = float(poses.lids[index]) if blinker.any else 0.0
        move, gaze, brows = poses.moves[index], poses.gaze[index], float(poses.brows[index])
        affines[index] = head.affine(move)
        marks[index] = points[:, :2] @ affines[index, :, :2].T + affines[index, :, 2]
        if order[index] < drawn:
            continue
        shown = rest
        if shut or brows or gaze.any():
            picture = blinker.draw(shut)
            expression.draw(picture, gaze, brows)
            shown = inside(to_planes(picture), area)
            yield 0.11 + 0.88 * index / count
        breath = float(poses.breath[index])
        planes = _moved(shown, head.maps(move, breath)) if move.any() or breath else shown
        y, u, v = inside(i420_planes(pictures[drawn], width, height), area)
        y[:], u[:], v[:] = planes
        drawn += 1
        yield 0.11 + 0.88 * (index + 1) / count
    frames = SharedFrames(pictures, order)
    about = body_id, width, height, fps, frames, marks, affines, reference, poses.jumps, digest(frames)
    framing = framed.affine if built_in else None
    yield BodyLoop(*about, original, poses.segments, key if built_in else "", framing)


def _points_in(
    mesh: FaceMesh, rgb: NDArray[np.uint8], face: FaceLandmarks, affine: NDArray[np.float32]
) -> NDArray[np.float32]:
    """The points measured again in the framed picture, where that finds the same face."""
    scale = scale_of(affine)
    points = face.points.copy()
    points[:, :2] = points[:, :2] @ affine[:, :2].T + affine[:, 2]
    points[:, 2] *= scale
    moved = FaceLandmarks(face.box, face.score, points)
    again = mesh.follow(rgb, moved, views=5)
    if again is not None:
        again = mesh.follow(rgb, again, views=5) or again
        if float(np.abs(again.points[:, :2] - points[:, :2]).mean()) < 0.06 * moved.height:
            return again.points
    return points


def _again(
    mesh: FaceMesh, rgb: NDArray[np.uint8], points: NDArray[np.float32], face: FaceLandmarks
) -> NDArray[np.float32]:
    """The mouth's points once its lips have been closed; the rest stays."""
    found = mesh.follow(rgb, FaceLandmarks(face.box, face.score, points), views=5)
    if found is None:
        return points
    out = points.copy()
    low, high = points[168, 1], points[2, 1]
    share = np.clip((points[:, 1] - low) / max(float(high - low), 1.0), 0, 1)[:, None]
    out += share * (found.points - points)
    return out.astype(np.float32)


def _moved(planes: Planes, maps: tuple[NDArray[np.float32], NDArray[np.float32]]) -> Planes:
    mx, my = maps
    hx, hy = motion.half_maps(mx, my)
    full = cv2.convertMaps(mx, my, cv2.CV_16SC2)
    half = cv2.convertMaps(hx, hy, cv2.CV_16SC2)

    def one(plane: NDArray[np.uint8], fixed: Sequence[NDArray[Any]]) -> NDArray[np.uint8]:
        out = cv2.remap(plane, fixed[0], fixed[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        return np.asarray(out, np.uint8)

    return one(planes[0], full), one(planes[1], half), one(planes[2], half)
