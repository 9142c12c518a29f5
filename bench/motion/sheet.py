"""What portraits do, side by side, to be looked at: ``python -m bench.motion.sheet OUT.jpg FACE...``.

A row a face: at rest, chin up, nodding, turned either way, shut eyes, wide open and rounded lips. A face is a file,
or the name of a picture that ``tests/support/portraits.py`` makes.
"""

from __future__ import annotations

import argparse
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.lipsync.sheet import MOUTHS
from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait import motion
from inference_server.avatars.portrait.image import load_image
from inference_server.engines.base import BodyLoop, Prepared
from inference_server.engines.portrait import PortraitEngine
from inference_server.engines.portrait.atlas import blend, mix_of
from inference_server.engines.portrait.handle import PortraitHandle
from tests.support import portraits
from visavis.frames import paste_i420
from visavis.rgb import to_rgb

FPS = Fraction(25)
SIZE = 512
Picture = NDArray[np.uint8]


def picture(face: str) -> Picture:
    """A file, or a picture of the tests."""
    made = getattr(portraits, face, None)
    return load_image(Path(face).read_bytes()) if made is None else np.asarray(made(), np.uint8)


def row(face: str, side: int) -> Picture:
    """RGB: one portrait doing everything."""
    *_, body = make_loop(picture(face), body_id="sheet", width=SIZE, height=SIZE, fps=FPS, fit="crop")
    assert isinstance(body, BodyLoop)
    *_, prepared = PortraitEngine({}).prepare(body, {})
    assert isinstance(prepared, Prepared)
    handle = PortraitHandle(prepared, body)
    poses = motion.poses(FPS, SIZE * SIZE * 3 // 2)
    pitch, yaw = poses.moves[:, 4], poses.moves[:, 3]
    shown = [0, *(int(at) for at in (pitch.argmin(), pitch.argmax(), yaw.argmin(), yaw.argmax()))]
    shown.append(int(poses.lids.argmax()))
    frames = [body.frame(index).copy() for index in shown]
    for mouth in ("father", "who"):
        frame = body.frame(0).copy()
        mix = mix_of(*MOUTHS[mouth])
        assert mix is not None
        out = bytearray(handle.rect(0).i420_size)
        rect = handle.draw(blend(handle.atlas, mix), 0, memoryview(out))
        paste_i420(frame, SIZE, SIZE, rect, memoryview(out))
        frames.append(frame)
    cells = [cv2.resize(to_rgb(f, SIZE, SIZE), (side, side), interpolation=cv2.INTER_AREA) for f in frames]
    return np.hstack(cells).astype(np.uint8)


def main() -> None:
    """One row per portrait."""
    parser = argparse.ArgumentParser(prog="python -m bench.motion.sheet", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("faces", nargs="+")
    parser.add_argument("--side", type=int, default=190, help="pixels of a cell")
    args = parser.parse_args()
    sheet = np.vstack([row(face, args.side) for face in args.faces])
    cv2.imwrite(str(args.out), sheet[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
