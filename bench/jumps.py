"""What a phone sees of an idle body's jumps: differences between consecutive decoded pictures.

``python -m bench.jumps [--image photo.jpg] [--seconds 300] [--sheet out/jumps.png]`` lets the portrait's body
idle as in a call (playout, jump points, cached loop, director), decodes the units strictly and prints mean and
largest differences in grey levels, ordinary steps beside jumps. The sheet shows the pictures before, at and
after the jump with the largest difference, and eight times that difference.
"""

from __future__ import annotations

import argparse
import itertools
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait.image import load_image
from inference_server.engines.base import BodyLoop
from orchestrator.media.parameters import VideoParameters
from orchestrator.media.sources import StillBody
from orchestrator.media.video.director import VideoDirector
from orchestrator.media.video.idle_loop import Cached, encode_phases, idle_key, packetize_phases
from orchestrator.rtp.packet import HEADER_SIZE
from testing.h264 import Depacketizer, annex_b
from visavis import portraits
from visavis.playout.idle import idle_path
from visavis.playout.playout import Playout

FPS = Fraction(25)
_CONTEXT = 2


def portrait_body(data: bytes, size: int) -> StillBody:
    """The body loop of a portrait."""
    for step in make_loop(load_image(data), body_id="jumps", width=size, height=size, fps=FPS, fit="crop"):
        if isinstance(step, BodyLoop):
            return StillBody(step.body_id, step.frames, step.jumps, step.segments)
    raise SystemExit("no body loop was made of this picture")


def idle_units(body: StillBody, ticks: int) -> tuple[list[int], list[Cached]]:
    """Loop indices and coded pictures of a call that only idles."""
    video = VideoParameters(
        96, ("127.0.0.1", 9), body.width, body.height, fps=FPS, feedback=frozenset({"nack pli"})
    )
    key = idle_key(body, video)
    loop = packetize_phases(encode_phases(body, key), key.mode, len(body.frames))
    way = idle_path(len(body.frames), body.segments, "a call")
    playout = Playout(len(body.frames), FPS, jumps=body.jumps, choose_jump=way)
    director, indices, units = VideoDirector(), [], []
    for _ in range(ticks):
        picture = playout.tick()
        action = director.decide(picture, loop)
        if not isinstance(action, Cached):
            raise SystemExit(f"loop index {picture.loop_index} was not in the cached loop")
        indices.append(picture.loop_index)
        units.append(action)
    return indices, units


def decode(units: list[Cached]) -> list[NDArray[np.uint8]]:
    """Luma of every picture; raises on anything damaged."""
    decoder = av.CodecContext.create("h264", "r")
    decoder.options = {"err_detect": "explode"}
    depacketizer, sequence, pictures = Depacketizer(), 0, []
    for unit in units:
        out = None
        for packet in unit.packets:
            marker = packet is unit.packets[-1]
            out = depacketizer.push(sequence, 0, marker, bytes(packet[HEADER_SIZE:])) or out
            sequence += 1
        assert out is not None
        pictures += decoder.decode(av.Packet(annex_b(out[1])))
    pictures += decoder.decode(None)
    return [picture.to_ndarray()[: picture.height].astype(np.uint8) for picture in pictures]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--image", type=Path, default=portraits.DEFAULT)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    body = portrait_body(options.image.read_bytes(), options.size)
    indices, units = idle_units(body, round(options.seconds * FPS))
    pictures = decode(units)
    loop = len(body.frames)
    mean, most, source = [], [], []
    for n in range(1, len(pictures)):
        difference = cv2.absdiff(pictures[n], pictures[n - 1])
        mean.append(float(difference.mean()))
        most.append(float(np.percentile(difference, 99.9)))
        before, now = (body.frames[indices[at]][: body.height] for at in (n - 1, n))
        source.append(float(cv2.absdiff(before, now).mean()))
    jumps = np.array([(b - a) % loop != 1 for a, b in itertools.pairwise(indices)])
    idrs = np.array([unit.idr for unit in units[1:]])
    for name, where in (
        ("ordinary steps", ~jumps & ~idrs), ("the loop's own key frames", ~jumps & idrs), ("jumps", jumps),
    ):  # fmt: skip
        if not where.any():
            continue
        chosen = np.array(mean)[where], np.array(most)[where], np.array(source)[where]
        print(
            f"{name:26} {where.sum():6d}: mean difference median {np.median(chosen[0]):.2f}, "
            f"worst {chosen[0].max():.2f}; 99.9th percentile of pixels worst {chosen[1].max():.0f}; "
            f"source pictures worst {chosen[2].max():.2f} grey levels"
        )
    if options.sheet is not None and jumps.any():
        at = int(np.flatnonzero(jumps)[np.argmax(np.array(mean)[jumps])]) + 1
        shown = [*pictures[at - _CONTEXT : at + _CONTEXT + 1]]
        change = cv2.absdiff(pictures[at], pictures[at - 1]).astype(np.int32)
        shown.append((change * 8).clip(0, 255).astype(np.uint8))
        options.sheet.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(options.sheet), np.hstack(shown))
        print(f"from {indices[at - 1]} to {indices[at]}: {options.sheet}")


if __name__ == "__main__":
    main()
