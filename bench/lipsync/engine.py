"""Measure an engine's own frames on speech with known phones: ``python -m bench.lipsync.engine face.jpg``.

Held-out voices of the training corpus speak through the engine; Face Mesh reads the lips off its frames. The
target is the phones' own curves, so this judges sound, network and picture together.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.lipsync.verdict import HEAD, INJECTED_MS, Measured, verdicts
from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait.image import load_image
from inference_server.engines.base import BodyLoop, Engine, Handle, Prepared, Row
from inference_server.engines.portrait.features import HOP, RATE
from inference_server.lipsync.lips import LipTrack, track_lips
from inference_server.lipsync.measure import LipSyncReport, compare
from inference_server.lipsync.phones import Phone
from inference_server.lipsync.target import from_phones
from testing.training.corpus import VOICES, Clip
from testing.training.dataset import test_set
from visavis.frames import frame_start, paste_i420
from visavis.rgb import to_rgb

Rgb = NDArray[np.uint8]


def prepare(engine: Engine, image: Path, fps: Fraction, size: int = 512) -> tuple[Handle, BodyLoop]:
    """Body loop and handle of a portrait file."""
    engine.load(lambda share, text: None)
    steps = make_loop(
        load_image(image.read_bytes()), body_id="bench", width=size, height=size, fps=fps, fit="crop"
    )
    body = next(s for s in steps if isinstance(s, BodyLoop))
    prepared = next(s for s in engine.prepare(body, {}) if isinstance(s, Prepared))
    return engine.attach(prepared, body), body


def render(
    engine: Engine,
    handle: Handle,
    body: BodyLoop,
    pcm: NDArray[np.int16],
    fps: Fraction,
    path: Callable[[int], int] | None = None,
) -> Iterator[tuple[float, Rgb]]:
    """Time and RGB of each frame of one turn over the running body loop, or over ``path``: its loop indices."""
    track = engine.track(handle, fps, 0)
    track.append(pcm)
    track.end()
    for k in range(track.ready()):
        index = k % len(body) if path is None else path(k)
        picture = body.frame(index).copy()
        out = bytearray(handle.largest_rect.i420_size)
        ticket = engine.submit([Row(track, k, index, 1.0, memoryview(out))])
        result = None
        while result is None:
            result = engine.collect(ticket, 1.0)
        rect = result[0].rect
        if result[0].kind == "failed":
            raise RuntimeError(result[0].error or "the engine failed")
        if result[0].kind == "mouth" and rect is not None:
            paste_i420(picture, body.width, body.height, rect, memoryview(out)[: rect.i420_size])
        yield frame_start(k, fps) / RATE, to_rgb(picture, body.width, body.height)
    track.close()


def first(clips: Sequence[Clip], most_s: float) -> list[Clip]:
    """The first clips, at least one, that last up to ``most_s`` seconds together."""
    ends = np.cumsum([len(clip.pcm) for clip in clips])
    return list(clips[: max(1, int((ends <= most_s * RATE).sum()))])


def joined(clips: Sequence[Clip]) -> Clip:
    """Clips end to end."""
    starts = np.cumsum([0] + [len(clip.pcm) for clip in clips]) / RATE
    phones = [
        Phone(p.symbol, p.start + float(at), p.end + float(at))
        for at, clip in zip(starts, clips, strict=False)
        for p in clip.phones
    ]
    return Clip(np.concatenate([clip.pcm for clip in clips]), phones)


def judge(engine: Engine, image: Path, clip: Clip, fps: Fraction) -> tuple[LipSyncReport, LipTrack]:
    """Figures of one clip on one portrait."""
    handle, body = prepare(engine, image, fps)
    lips = track_lips(render(engine, handle, body, clip.pcm, fps))
    engine.detach(handle)
    return compare(lips, from_phones(clip.phones, len(clip.pcm) // HOP)), lips


def main() -> int:
    """One line per held-out voice and frame rate, then every requirement and whether it is met."""
    from inference_server.engines.portrait import PortraitEngine

    parser = argparse.ArgumentParser(
        prog="python -m bench.lipsync.engine", description="Judge engine frames."
    )
    parser.add_argument("portrait", type=Path)
    parser.add_argument("--only", default="", help="voices whose name contains this")
    parser.add_argument("--fps", type=int, nargs="*", default=[25, 30])
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="engine settings")
    args = parser.parse_args()
    settings = dict(item.split("=", 1) for item in args.set)
    rows: list[Measured] = []
    print(HEAD)
    for voice in VOICES:
        if not voice.test or args.only not in voice.name:
            continue
        clip = joined(first(test_set(voice), args.seconds))
        target = from_phones(clip.phones, len(clip.pcm) // HOP)
        for fps in args.fps:
            report, lips = judge(PortraitEngine(settings), args.portrait, clip, Fraction(fps))
            late = compare(replace(lips, times=lips.times + INJECTED_MS / 1000), target)
            rows.append(Measured(voice.name, voice.kind, fps, report, late.lag_ms - report.lag_ms))
            print(rows[-1].line(), flush=True)
    for verdict in verdicts(rows):
        print(verdict.line())
    return 0


if __name__ == "__main__":
    sys.exit(main())
