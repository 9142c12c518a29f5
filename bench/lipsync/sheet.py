"""Mouths of portraits side by side, to be looked at: ``python -m bench.lipsync.sheet OUT.jpg face.jpg...``."""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.lipsync.engine import prepare
from inference_server.engines.portrait import PortraitEngine
from inference_server.engines.portrait.atlas import blend, mix_of
from inference_server.engines.portrait.handle import PortraitHandle
from visavis.frames import paste_i420
from visavis.rgb import to_rgb

MOUTHS = {
    "rest": (0.0, 0.0, 0.0, 0.0),
    "m p b": (0.0, 0.0, 1.0, 0.0),
    "f v": (0.1, 0.1, 0.0, 1.0),
    "see": (0.26, 0.85, 0.0, 0.0),
    "bed": (0.6, 0.4, 0.0, 0.0),
    "half": (0.45, 0.1, 0.0, 0.0),
    "father": (1.0, 0.1, 0.0, 0.0),
    "law": (0.65, -0.5, 0.0, 0.0),
    "go": (0.48, -0.75, 0.0, 0.0),
    "who": (0.22, -0.9, 0.0, 0.0),
}
"""Words, or sounds, and their open, width, close and fv."""
SIDE = 150


def row(portrait: Path, size: int = 512) -> NDArray[np.uint8]:
    """RGB: the lower face of one portrait with every mouth."""
    engine = PortraitEngine({})
    handle, body = prepare(engine, portrait, Fraction(1), size)
    assert isinstance(handle, PortraitHandle)
    points = body.landmarks[0]
    reach = 0.36 * float(np.linalg.norm(points[10] - points[152]))
    left, top = (max(0, int(v)) for v in points[1] - [reach, 0.8 * reach])
    right, bottom = (min(size, int(v)) for v in points[1] + [reach, 1.2 * reach])
    shown = []
    for name, mouth in MOUTHS.items():
        frame = body.frame(0).copy()
        mix = mix_of(*mouth)
        if mix is not None:
            out = bytearray(handle.rect(0).i420_size)
            rect = handle.draw(blend(handle.atlas, mix), 0, memoryview(out))
            paste_i420(frame, size, size, rect, memoryview(out))
        face = to_rgb(frame, size, size)[top:bottom, left:right]
        part = np.asarray(cv2.resize(face, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
        cv2.putText(part, name, (5, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 80), 1, cv2.LINE_AA)
        shown.append(part)
    engine.detach(handle)
    return np.hstack(shown).astype(np.uint8)


def main() -> None:
    """One row per portrait."""
    parser = argparse.ArgumentParser(prog="python -m bench.lipsync.sheet", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("portraits", type=Path, nargs="+")
    args = parser.parse_args()
    sheet = np.vstack([row(portrait) for portrait in args.portraits])
    cv2.imwrite(str(args.out), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
