"""MuseTalk's face box by our landmarks beside another 68-point model's, over folders of pictures and videos.

    python -m bench.face_boxes --predictor FILE.dat PICTURE|VIDEO|FOLDER...

The public implementation takes its box from DWPose's 68 face points. FILE is a shape predictor for the same points
that dlib can read; dlib is no part of the project (``pip install dlib-bin``). Printed: for every side of the box
ours less the other's in percent of the face's height (the height of the box), and for videos how much each side
shakes (its second difference from frame to frame). Pictures in which either finds no face are named and left out.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.loop import face_mesh
from inference_server.avatars.portrait.framing import speaking_face
from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.portrait.landmarks import Face
from inference_server.avatars.video import Clip, VideoLimits
from inference_server.avatars.video_loop import follow_face, smoothed
from inference_server.engines.base import ImageRejected
from inference_server.engines.musetalk.face import HALF_FACE, face_extent, ibug_points, steady

SIDES = ("left", "top", "right", "foot", "half-face line")
PICTURES, VIDEOS = (".jpg", ".jpeg", ".png", ".webp", ".bmp"), (".mp4", ".mov", ".webm", ".mkv")
LARGEST = 1200  # pixels of a picture's longer side
Rgb = NDArray[np.uint8]
Points = NDArray[np.float64]
Predict = Callable[[Rgb, Face], Points | None]


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--predictor", type=Path, required=True, help="dlib's 68-point shape predictor")
    parser.add_argument("--frames", type=int, default=100, help="of every video")
    options = parser.parse_args()
    predict = predictor(options.predictor)
    files = sorted(f for path in options.paths for f in (path.rglob("*") if path.is_dir() else [path]))
    rows = []
    for file in (f for f in files if f.suffix.lower() in PICTURES):
        try:
            rows.append(picture(file, predict))
        except ImageRejected as error:
            print(f"left out: {file.name}: {error}")
    if rows:
        print(f"\n{len(rows)} pictures: ours less the other's, % of the face's height")
        table(np.array(rows))
    for file in (f for f in files if f.suffix.lower() in VIDEOS):
        video(file, predict, options.frames)
    return 0


def predictor(path: Path) -> Predict:
    """68 points ``(68, 2)`` of the face that we found, by dlib's detector and FILE's model."""
    dlib: Any = importlib.import_module("dlib")
    detect, shape = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(path))

    def predict(rgb: Rgb, face: Face) -> Points | None:
        x, y, w, h = face.box
        for found in detect(rgb, 1 if max(rgb.shape) < 700 else 0):
            middle = found.center()
            if x < middle.x < x + w and y < middle.y < y + h:
                return np.array([(p.x, p.y) for p in shape(rgb, found).parts()], float)
        return None

    return predict


def sides(points: NDArray[Any]) -> Points:
    """x1, y1, x2, y2 and the half-face line of 68 points."""
    return np.append(face_extent(points), points[HALF_FACE, 1])


def picture(file: Path, predict: Predict) -> Points:
    """Ours less the other's, of one picture. Raises :class:`ImageRejected`."""
    rgb = load_image(file.read_bytes())
    scale = min(1.0, LARGEST / max(rgb.shape))
    if scale < 1:
        rgb = np.asarray(cv2.resize(rgb, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA), np.uint8)
    mesh = face_mesh()
    face = speaking_face(mesh.detect(rgb))
    face = mesh.follow(rgb, face, views=5) or face
    other = predict(rgb, face)
    if other is None:
        raise ImageRejected("the other model found no face here")
    return difference(ibug_points(face.points[:, :2]), other)


def difference(ours: NDArray[Any], other: Points) -> Points:
    """Percent of the other box's height."""
    reference = sides(other)
    return np.asarray((sides(ours) - reference) / (reference[3] - reference[1]) * 100)


def table(values: Points) -> None:
    """Median, spread and worst of every side."""
    print("  side             median   |median|   |p95|   |max|")
    for name, column in zip(SIDES, values.T, strict=True):
        size = np.abs(column)
        spread = (np.median(column), np.median(size), np.percentile(size, 95), size.max())
        print(f"  {name:15} " + " ".join(f"{v:8.2f}" for v in spread))


def video(file: Path, predict: Predict, most: int) -> None:
    """Difference and jitter over a video's frames."""
    clip = Clip(file.read_bytes(), Fraction(25), VideoLimits(max_s=600))
    frames: Iterator[Rgb] = (rgb for rgb, _ in zip(clip, range(most), strict=False))
    kept = list(frames)
    found = list(follow_face(kept, Fraction(25)))
    others = [predict(rgb, face) if face else None for rgb, face in zip(kept, found, strict=True)]
    raw = np.array([sides(ibug_points(f.points[:, :2])) for f in found if f])
    mesh = smoothed(found)[:, :, :2]
    calm = np.array([sides(ibug_points(points)) for points in mesh])
    calm[:, :4] = steady(calm[:, :4])
    pairs = [(p, o) for p, o in zip(mesh, others, strict=True) if o is not None]
    print(f"\n{file.name}: {len(kept)} frames, both found a face in {len(pairs)}")
    if pairs:
        table(np.array([difference(ibug_points(p), o) for p, o in pairs]))
    theirs = np.array([sides(o) for o in others if o is not None])
    print("  shake, % of the face's height (90th percentile of the second difference)")
    for name, track in (("ours, each frame alone", raw), ("ours, as used", calm), ("the other", theirs)):
        if len(track) > 2:
            height = float(np.median(track[:, 3] - track[:, 1]))
            shake = np.percentile(np.abs(np.diff(track, n=2, axis=0)), 90, axis=0) / height * 100
            print(f"  {name:24} " + " ".join(f"{s} {v:.2f}" for s, v in zip(SIDES, shake, strict=True)))


if __name__ == "__main__":
    raise SystemExit(main())
