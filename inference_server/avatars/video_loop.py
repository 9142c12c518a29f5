"""A video played there and back as the loop of body frames."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.i420 import pack, to_planes
from inference_server.avatars.loop import even, face_mesh
from inference_server.avatars.portrait.framing import Fit, placement, render, speaking_face
from inference_server.avatars.portrait.landmarks import FaceLandmarks
from inference_server.avatars.portrait.upright import upright
from inference_server.engines.base import BodyLoop, ImageRejected
from visavis.frames import SharedFrames, digest

VIDEO_BUILD = "video-1"
"""Part of every ``body_id`` of a video: raise it with every change of the loop's pixels."""

MOST_BYTES = 768 << 20  # of a loop, which every client keeps too
_LOST = 3  # frames in a row without a face that their neighbours stand in for
_CUT = 0.5  # of the face's height between two frames: a cut to another picture


class Frames(Protocol):
    """``(h, w, 3)`` RGB pictures of one size that can be gone through more than once."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[NDArray[np.uint8]]: ...


def make_video_loop(
    frames: Frames, *, body_id: str, width: int, height: int, fps: Fraction, fit: Fit
) -> Iterator[float | BodyLoop]:
    """Otherwise as :func:`~inference_server.avatars.loop.make_loop`.

    ``landmarks`` are smoothed over time; single frames in which the face is lost take their neighbours'.
    """
    even(width, height)
    there = len(frames)
    if there < 2:
        raise ImageRejected("The video has fewer than two frames: use a longer one, or a picture.")
    count = 2 * there - 2
    nbytes = count * width * height * 3 // 2
    if nbytes > MOST_BYTES:
        raise ImageRejected(
            f"At {width}x{height} this video makes a loop of {nbytes >> 20} MiB and at most "
            f"{MOST_BYTES >> 20} are kept: cut it to {float(there * MOST_BYTES // nbytes / fps):.1f} s or ask "
            "for a smaller picture."
        )
    yield 0.0
    found: list[FaceLandmarks | None] = []
    for face in follow_face(frames, fps):
        found.append(face)
        yield 0.6 * len(found) / there
    points = smoothed(found)
    first = next(f for f in found if f is not None)
    middle = FaceLandmarks(first.box, first.score, np.median(points, 0).astype(np.float32))
    pictures = np.empty((there, height * 3 // 2, width), np.uint8)
    order = np.concatenate((np.arange(there), np.arange(there - 2, 0, -1))).astype(np.int32)
    marks = np.empty((count, points.shape[1], 2), np.float32)
    affines = np.empty((count, 2, 3), np.float32)
    reference = np.empty(0, np.uint8)
    for index, rgb in enumerate(frames):
        affine, inner = placement(rgb.shape[1], rgb.shape[0], middle, width, height, fit)
        picture = render(rgb, affine, inner, width, height)
        if index == 0:
            reference = picture
        marks[index] = points[index, :, :2] @ affine[:, :2].T + affine[:, 2]
        affines[index] = _similarity(marks[0], marks[index])
        pack(to_planes(picture), pictures[index])
        back = count - index
        if 0 < index < there - 1:
            marks[back], affines[back] = marks[index], affines[index]
        yield 0.6 + 0.39 * (index + 1) / there
    frames_shown, jumps = SharedFrames(pictures, order), _turns(marks[:there])
    about = body_id, width, height, fps, frames_shown, marks, affines, reference, jumps
    yield BodyLoop(*about, digest(frames_shown))


def follow_face(frames: Frames, fps: Fraction) -> Iterator[FaceLandmarks | None]:
    """The face in every frame. Raises :class:`ImageRejected` where it is out of sight or another one."""
    mesh = face_mesh()
    face: FaceLandmarks | None = None
    lost = 0
    for index, rgb in enumerate(frames):
        if index == 0:
            turned, faces = upright(rgb, mesh)
            if turned is not rgb:
                raise ImageRejected("The video is on its side or upside down: turn it and upload it again.")
            found: FaceLandmarks | None = speaking_face(faces)
        else:
            found = face and mesh.follow(rgb, face, views=3)
            found = found or next(iter(mesh.detect(rgb)), None)
        lost = 0 if found else lost + 1
        if lost > _LOST:
            when = float((index - _LOST) / fps)
            raise ImageRejected(
                f"No face was found {when:.1f} s into the video: use one that shows it throughout."
            )
        if found and face and _moved(face, found) > _CUT * (lost + 1):
            raise ImageRejected(
                f"The picture jumps {float(index / fps):.1f} s into the video: use one without cuts."
            )
        face = found or face
        yield found


def _moved(a: FaceLandmarks, b: FaceLandmarks) -> float:
    """How far the middle of the face went, in heights of the face."""
    return float(np.linalg.norm((b.points - a.points)[:, :2].mean(0))) / max(a.height, 1.0)


def smoothed(found: list[FaceLandmarks | None]) -> NDArray[np.float32]:
    """``(n, 468, 3)``: gaps filled by the nearest frame, then a Gaussian of 1.2 frames over time."""
    known = [i for i, face in enumerate(found) if face is not None]
    nearest = (min(known, key=lambda k, i=i: abs(k - i)) for i in range(len(found)))  # type: ignore[misc]
    points = np.stack([face.points for i in nearest if (face := found[i]) is not None])
    kernel = np.exp(-(np.arange(-4, 5) ** 2) / (2 * 1.2**2))
    kernel /= kernel.sum()
    padded = np.pad(points, ((4, 4), (0, 0), (0, 0)), mode="edge")
    smooth = sum(k * padded[i : i + len(points)] for i, k in enumerate(kernel))
    return np.asarray(smooth, np.float32)


def _similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Least-squares turn, scale and shift from ``a`` to ``b`` by points that speech does not move."""
    still = [2, 98, 327, 168, 6, 33, 133, 263, 362, 234, 454, 129, 358, 205, 425]
    p, q = a[still].astype(np.float64), b[still].astype(np.float64)
    pc, qc = p - p.mean(0), q - q.mean(0)
    norm = float((pc**2).sum())
    c = float((pc * qc).sum()) / norm
    s = float((pc[:, 0] * qc[:, 1] - pc[:, 1] * qc[:, 0]).sum()) / norm
    linear = np.array([[c, -s], [s, c]])
    return np.hstack([linear, (q.mean(0) - linear @ p.mean(0))[:, None]]).astype(np.float32)


def _turns(marks: NDArray[np.float32]) -> tuple[tuple[int, int], ...]:
    """Where a video played there and back may turn around early: its stillest frames, well apart."""
    there = len(marks)
    count = 2 * there - 2
    if there < 20:
        return ()
    speed = np.abs(marks[2:] - marks[:-2]).mean((1, 2))
    jumps: list[tuple[int, int]] = []
    taken: list[int] = []
    for index in np.argsort(speed):
        frame = int(index) + 1
        if min([frame, there - 1 - frame, *(abs(frame - t) for t in taken)]) < max(8, there // 6):
            continue
        taken.append(frame)
        jumps += [(frame, count - frame + 1), (count - frame, frame + 1)]
        if len(taken) == 3:
            break
    return tuple(jumps)
