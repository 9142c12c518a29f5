"""Two engines side by side, to be judged by somebody who knows neither.

``python -m bench.motion.pairs strips FOLDER FACE...`` draws ten sentences of each face with this tree's engine:
eight pictures, the eyes in them, and sixteen mouths in a row of 40 ms each. The same with another tree's
(``PYTHONPATH``), then ``python -m bench.motion.pairs join BEFORE AFTER PAIRS KEY.json`` lays the two strips of a
name above each other as 1 and 2, in an order that only the key tells. Choices are written down before the key is
read.
"""

from __future__ import annotations

import argparse
import json
import random
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.lipsync.engine import prepare, render
from bench.motion.__main__ import spoken_on
from bench.motion.speech import TEXT, sentence
from inference_server.engines.portrait import PortraitEngine

FPS = Fraction(25)
SENTENCES = 10
SEED = 20261130
Rgb = NDArray[np.uint8]


def strip(pictures: list[Rgb]) -> Rgb:
    """RGB: eight whole faces, the eyes of these, sixteen mouths of the sentence's middle."""
    chosen = np.linspace(2, len(pictures) - 3, 8).round().astype(int)
    middle = len(pictures) // 2 - 8
    rows = (
        [_part(pictures[k], (60, 440), (76, 436), (208, 220)) for k in chosen],
        [_part(pictures[k], (150, 260), (140, 372), (208, 99)) for k in chosen],
        [_part(pictures[middle + k], (250, 400), (170, 345), (104, 89)) for k in range(16)],
    )
    return np.vstack([np.hstack(row) for row in rows]).astype(np.uint8)


def _part(picture: Rgb, rows: tuple[int, int], columns: tuple[int, int], size: tuple[int, int]) -> Rgb:
    part = picture[slice(*rows), slice(*columns)]
    return np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.uint8)


def strips(folder: Path, faces: list[Path]) -> None:
    """``FACE-N.png`` in the folder for each face and sentence."""
    folder.mkdir(parents=True, exist_ok=True)
    for face in faces:
        engine = PortraitEngine({})
        handle, body = prepare(engine, face, FPS)
        for number, text in enumerate(TEXT[:SENTENCES]):
            pcm = sentence(text, 155 + 8 * (number % 3), 150).pcm
            path = spoken_on(body, pcm, FPS)
            drawn = strip([rgb for _, rgb in render(engine, handle, body, pcm, FPS, path.__getitem__)])
            cv2.imwrite(str(folder / f"{face.stem}-{number}.png"), drawn[:, :, ::-1])


def join(before: Path, after: Path, pairs: Path, key: Path) -> None:
    """``01.png`` and so on in ``pairs``; ``key`` says for each which of 1 and 2 is the one of ``after``."""
    order = random.Random(SEED)
    names = sorted(path.name for path in before.glob("*.png"))
    order.shuffle(names)
    pairs.mkdir(parents=True, exist_ok=True)
    told = {}
    for number, name in enumerate(names, 1):
        shown = [np.asarray(cv2.imread(str(folder / name)), np.uint8) for folder in (before, after)]
        first = order.choice((0, 1))
        told[number] = {"name": name, "after": 2 - first}
        rows: list[NDArray[np.uint8]] = []
        for label, picture in (("1", shown[first]), ("2", shown[1 - first])):
            line = np.full((26, picture.shape[1], 3), 255, np.uint8)
            cv2.putText(line, label, (6, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 2)
            rows += [line, picture]
        cv2.imwrite(str(pairs / f"{number:02d}.png"), np.vstack(rows))
    key.write_text(json.dumps(told, indent=1))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.motion.pairs", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("strips")
    one.add_argument("folder", type=Path)
    one.add_argument("faces", type=Path, nargs="+")
    both = commands.add_parser("join")
    for name in ("before", "after", "pairs", "key"):
        both.add_argument(name, type=Path)
    args = parser.parse_args()
    if args.command == "strips":
        strips(args.folder, args.faces)
    else:
        join(args.before, args.after, args.pairs, args.key)


if __name__ == "__main__":
    main()
