"""What a viewer sees beside the timing of lips, with the goal beside each figure.

``python -m bench.motion engine [--image face.jpg] [--seconds 60]``: the engine's own frames while a voice speaks,
and a minute of idle. ``python -m bench.motion call``: the same of what a phone received. ``python -m bench.motion
voices``: silence and level of every installed voice.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.lipsync.call import called, placed
from bench.lipsync.engine import prepare, render
from bench.motion import figures, voices
from bench.motion.figures import Figure
from bench.motion.pitch import pitch
from bench.motion.speech import spoken
from bench.motion.watch import Watched, watch
from inference_server.avatars.portrait.lips import gap_mm
from inference_server.engines.base import BodyLoop, Handle
from inference_server.engines.portrait import PortraitEngine
from inference_server.engines.portrait.atlas import parted
from inference_server.engines.portrait.features import RATE
from inference_server.lipsync import compare
from inference_server.lipsync.lips import LipTrack
from inference_server.lipsync.phones import Phone, curves
from inference_server.lipsync.target import from_phones
from inference_server.streams.path import BodyPath, segments_of
from inference_server.streams.prosody import Prosody
from testing.caller.movie import aligned
from testing.training.corpus import Clip
from visavis import portraits
from visavis.frames import frame_start
from visavis.playout.idle import idle_path
from visavis.playout.playout import Playout
from visavis.rgb import to_rgb

Rgb = NDArray[np.uint8]


def lips(seen: Watched, phones: Sequence[Phone]) -> list[Figure]:
    """Lip-sync beside the rest: a calmer mouth must not be a worse one."""
    hops = round(max(phones[-1].end, seen.times[-1] + seen.slot) * 100)
    report = compare(LipTrack(seen.times, seen.gap, seen.width, seen.lost), from_phones(phones, hops))
    closed = report.bilabials or 0.0
    return [
        Figure("r0 against the phones", f"{report.r0:.3f}", ">= .88", report.r0 >= 0.88),
        Figure("lag of the lips", f"{report.lag_ms:+.0f} ms", "within 40", abs(report.lag_ms) <= 40),
        Figure("labials shut", f"{closed:.0%} of {report.bilabial_count}", ">= 95 %", closed >= 0.95),
    ]


def speaking(seen: Watched, pcm: NDArray[np.int16], phones: Sequence[Phone]) -> list[Figure]:
    """Every figure of a face that speaks."""
    truth = curves(phones, round((seen.times[-1] + 1) * 100))
    tone = pitch(pcm)
    return [
        *lips(seen, phones),
        figures.speeds(seen),
        figures.false_closures(seen, truth),
        figures.anticipation(seen, truth),
        figures.teeth(seen, truth, phones),
        *figures.head(seen),
        figures.with_pitch(seen, tone),
        figures.repetition(seen),
        *figures.blinks(seen),
        figures.gaze(seen),
        figures.brows(seen, tone),
    ]


def asked(drawer: PortraitEngine, handle: Handle, seen: Watched, clip: Clip, fps: Fraction) -> list[Figure]:
    """The same of the lips that the engine was asked to draw, told beside what Face Mesh sees of them: it misses
    small openings of drawn faces."""
    track = drawer.track(handle, fps, 0)
    track.append(clip.pcm)
    track.end()
    mouths = [track.params(k) for k in range(track.ready())]
    gap = np.array([gap_mm(m.open * parted(m.close, m.fv)) for m in mouths])
    times = np.array([frame_start(k, fps) / RATE for k in range(len(mouths))])
    drawn = replace(seen, times=times, gap=gap, width=np.array([m.width for m in mouths]), lost=0)
    truth = curves(clip.phones, round((times[-1] + 1) * 100))
    return [
        *lips(drawn, clip.phones),
        figures.speeds(drawn),
        figures.false_closures(drawn, truth),
        figures.anticipation(drawn, truth),
    ]


def spoken_on(body: BodyLoop, pcm: NDArray[np.int16], fps: Fraction) -> list[int]:
    """The body frames that a turn is spoken on, of a voice that is two seconds ahead."""
    count = len(pcm) * fps.numerator // (RATE * fps.denominator) + 1
    segments = segments_of(body)
    if segments is None:
        return [k % len(body) for k in range(count)]
    path = BodyPath(segments, fps, Prosody(0), 1)
    path.begin(0, 0)
    indices, given = list[int](), 0
    for k in range(count):
        known = min(len(pcm), frame_start(k, fps) + 2 * RATE)
        path.prosody.append(pcm[given:known])
        given = known
        indices.append(path.loop_index(k))
    return indices


def idling(body: BodyLoop, fps: Fraction, seconds: float) -> tuple[list[tuple[float, Rgb]], list[int]]:
    """Pictures of an idle call, and their body frames."""
    way = idle_path(len(body), body.segments, "a call")
    playout = Playout(len(body), fps, jumps=body.jumps, choose_jump=way)
    path = [playout.tick().loop_index for _ in range(round(seconds * fps))]
    return [
        (k / float(fps), to_rgb(body.frame(i), body.width, body.height)) for k, i in enumerate(path)
    ], path


def still(seen: Watched, path: Sequence[int], fps: float) -> list[Figure]:
    """Every figure of a face at rest."""
    return [
        figures.repetition(seen),
        figures.repeated(path, fps),
        *figures.blinks(seen),
        figures.gaze(seen),
        figures.brows(seen, None),
    ]


def show(title: str, found: Sequence[Figure]) -> None:
    """Print them."""
    print(f"\n{title}")
    for figure in found:
        print(figure.line(), flush=True)


def engine(image: Path, seconds: float, fps: int, size: int) -> None:
    """The portrait engine's own frames."""
    rate = Fraction(fps)
    drawer = PortraitEngine({})
    handle, body = prepare(drawer, image, rate, size)
    clip = spoken(seconds)
    way = spoken_on(body, clip.pcm, rate)
    seen = watch(render(drawer, handle, body, clip.pcm, rate, way.__getitem__))
    found = speaking(seen, clip.pcm, clip.phones)
    path = way[: len(seen.times)]
    show(f"{image.name} speaking, {seconds:.0f} s at {fps} fps", [*found, figures.repeated(path, float(fps))])
    show("the mouth that was asked for", asked(drawer, handle, seen, clip, rate))
    pictures, path = idling(body, rate, seconds)
    show("idle", still(watch(pictures), path, float(fps)))
    raw = body.frames.nbytes / 1e6
    show(
        "cost", [Figure("body frames, raw", f"{len(body)}, {raw:.0f} MB", "<= 100 MB at 512x512", raw <= 100)]
    )


def call(image: Path, seconds: float, fps: int) -> None:
    """A call, as a phone received it."""
    clip = spoken(seconds)
    recording, _ = asyncio.run(called([clip], fps, "portrait", image.read_bytes()))
    heard = placed(recording.samples(), [clip])
    start, end = heard.spans[0]
    frames = recording.frames()

    def shown() -> Iterator[tuple[float, Rgb]]:
        for at, frame in zip(aligned(recording, frames), frames, strict=True):
            if start <= at < end:
                yield at - start, frame.image

    phones = [Phone(p.symbol, p.start - start, p.end - start) for p in heard.phones]
    show(f"received call, {seconds:.0f} s at {fps} fps", speaking(watch(shown()), clip.pcm, phones))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.motion", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("what", choices=("engine", "call", "voices"))
    parser.add_argument("--image", type=Path, default=portraits.DEFAULT)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--size", type=int, default=512)
    args = parser.parse_args()
    if args.what == "engine":
        engine(args.image, args.seconds, args.fps, args.size)
    elif args.what == "call":
        call(args.image, args.seconds, args.fps)
    else:
        for name, found in itertools.groupby(asyncio.run(voices.measured()), lambda f: f.name.split(":")[0]):
            show(name, list(found))


if __name__ == "__main__":
    main()
