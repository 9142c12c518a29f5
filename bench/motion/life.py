"""A face as a viewer meets it, to be looked at at full size: ``python -m bench.motion.life FOLDER FACE...``.

A sheet a face: twelve pictures of two sentences, 32 mouths of them 40 ms apart, the eyes in eight pictures of a
blink, a picture of each of twenty seconds at rest.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.lipsync.engine import prepare, render
from bench.motion.__main__ import idling, spoken_on
from bench.motion.speech import TEXT, sentence
from inference_server.avatars.portrait import motion
from inference_server.engines.portrait import PortraitEngine
from visavis.rgb import to_rgb

FPS = Fraction(25)
WIDTH = 1200
Rgb = NDArray[np.uint8]
Point = NDArray[np.float32]


def part(picture: Rgb, middle: Point, across: float, down: float, width: int) -> Rgb:
    """What lies about ``middle``, so far to either side, made ``width`` wide; the picture's edge goes on."""
    size = (round(2 * across), round(2 * down))
    centre = (float(middle[0]), float(middle[1]))
    cut = cv2.getRectSubPix(picture, size, centre)
    shape = (width, round(width * down / across))
    return np.asarray(cv2.resize(cut, shape, interpolation=cv2.INTER_AREA), np.uint8)


def rows(parts: list[Rgb], columns: int) -> list[Rgb]:
    """As many in a row."""
    return [np.hstack(parts[at : at + columns]).astype(np.uint8) for at in range(0, len(parts), columns)]


def sheet(face: Path) -> Rgb:
    """RGB, :data:`WIDTH` wide."""
    engine = PortraitEngine({})
    handle, body = prepare(engine, face, FPS)
    said = sentence(f"{TEXT[1]} {TEXT[4]}", 160, 150).pcm
    speaking = [p for _, p in render(engine, handle, body, said, FPS, spoken_on(body, said, FPS).__getitem__)]
    resting = [p for _, p in idling(body, FPS, 20)[0]]
    lids = motion.poses(FPS, body.width * body.height * 3 // 2).lids
    shut = int(lids.argmax())
    blinking = [to_rgb(body.frame(shut - 3 + k), body.width, body.height) for k in range(8)]

    points = body.landmarks[0]
    tall = 0.78 * float(np.linalg.norm(points[10] - points[152]))
    wide = 0.85 * tall
    mouth, eyes = (float(np.linalg.norm(points[a] - points[b])) for a, b in ((61, 291), (33, 263)))
    lips, between = points[[61, 291, 13, 14]].mean(0), points[[33, 263]].mean(0)
    chosen = np.linspace(3, len(speaking) - 4, 12).round().astype(int)
    start = len(speaking) // 5
    return np.vstack(
        [
            *rows([part(speaking[k], points.mean(0), wide, tall, WIDTH // 6) for k in chosen], 6),
            *rows([part(p, lips, mouth, 0.85 * mouth, WIDTH // 8) for p in speaking[start : start + 32]], 8),
            *rows([part(p, between, 0.8 * eyes, 0.45 * eyes, WIDTH // 4) for p in blinking], 4),
            *rows([part(p, points.mean(0), wide, tall, WIDTH // 10) for p in resting[::25]], 10),
        ]
    ).astype(np.uint8)


def main() -> None:
    """``FOLDER/FACE.png`` of every face."""
    parser = argparse.ArgumentParser(prog="python -m bench.motion.life", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("faces", nargs="+", type=Path)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    for face in args.faces:
        cv2.imwrite(str(args.folder / f"{face.stem}.png"), sheet(face)[:, :, ::-1])


if __name__ == "__main__":
    main()
