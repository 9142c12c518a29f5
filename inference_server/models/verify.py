"""``visavis-models verify``: draw a clip with the weights that are there, and judge it.

For the day the real weights come: a clip, a picture and a few figures, by which a person accepts or rejects an
installation in two minutes. Needs the packages of ``visavis[inference,musetalk]``.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.loop import make_loop
from inference_server.avatars.portrait.image import load_image
from inference_server.avatars.video import VideoClip
from inference_server.avatars.video_loop import make_video_loop
from inference_server.engines.base import BodyLoop, EngineError, Handle, Prepared, Row
from inference_server.engines.musetalk import MuseTalkEngine
from inference_server.lipsync.clip import read_sound
from inference_server.lipsync.measure import measure
from inference_server.lipsync.picture import draw
from visavis.frames import Rect, paste_i420
from visavis.rgb import to_rgb

FPS = Fraction(25)
Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Quality:
    """``seam``: steps across the rectangle's edge over those of the plain body there (1: none to be seen).
    ``sharpness``: fine detail of the drawn mouth over the body's own in the same place."""

    seam: float
    sharpness: float


def verify(options: argparse.Namespace) -> int:
    """Render, measure, print. 0 when a clip came out; whether it is good a person decides."""
    values = {
        "musetalk_dir": str(options.dir),
        "version": options.version,
        "decoder": options.decoder,
        "device": options.device,
        "parser": "true" if options.parser else "false",
    }
    try:
        engine = MuseTalkEngine(values)
        engine.load(lambda share, words: print(f"{share:5.0%}  {words}"))
        body = body_of(options.image)
        handle = engine.attach(_prepared(engine, body), body)
    except EngineError as error:
        print(error)
        return 1
    pcm = read_sound(options.wav).pcm[: int(options.seconds * 16_000)]
    options.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    pictures = list(render(engine, handle, body, pcm))
    spent = time.monotonic() - began
    clip = options.out / "verify.mp4"
    write_clip(clip, [rgb for rgb, _ in pictures], pcm)
    quality = judge(pictures, body, handle)
    report, lips, target, start = measure(clip, audio=options.wav)
    cv2.imwrite(str(options.out / "lips.png"), draw(report, lips, target, start))
    cv2.imwrite(str(options.out / "frames.jpg"), contact_sheet(pictures, handle)[..., ::-1])
    drawn = sum(mouth for _, mouth in pictures)
    bilabials = "not in this clip" if report.bilabials is None else f"{report.bilabials:.0%}"
    print(
        f"clip        {clip}, {len(pictures)} pictures, {drawn} with a drawn mouth, {len(pictures) / spent:.1f} fps"
    )
    print(f"sync r0     {report.r0:.3f} (1.5 s off: {report.misaligned:+.3f})")
    print(f"lag         {report.lag_ms:+.0f} ms")
    print(f"bilabials   {bilabials} of {report.bilabial_count} closures seen")
    print(f"seam        {quality.seam:.2f} times the steps of the plain body (1: none)")
    print(f"sharpness   {quality.sharpness:.2f} of the body's own detail")
    print(f"look at     {options.out / 'frames.jpg'} and {options.out / 'lips.png'}")
    return 0


def body_of(path: Path) -> BodyLoop:
    """The loop of a portrait or a short video. Raises :class:`EngineError`."""
    if path.suffix.lower() in (".mp4", ".mov", ".mkv", ".webm"):
        clip = VideoClip(path.read_bytes(), FPS)
        height, width = (v & ~1 for v in next(iter(clip)).shape[:2])
        steps = make_video_loop(clip, body_id="verify", width=width, height=height, fps=FPS, fit="crop")
    else:
        image = load_image(path.read_bytes())
        height, width = (v & ~1 for v in image.shape[:2])
        scale = min(1.0, 1280 / max(height, width))
        width, height = int(width * scale) & ~1, int(height * scale) & ~1
        steps = make_loop(image, body_id="verify", width=width, height=height, fps=FPS, fit="crop")
    made = list(steps)[-1]
    assert isinstance(made, BodyLoop)
    return made


def _prepared(engine: MuseTalkEngine, body: BodyLoop) -> Prepared:
    made: float | Prepared = 0.0
    for n, made in enumerate(engine.prepare(body, {})):
        if isinstance(made, float) and n % 60 == 0:
            print(f"{made:5.0%}  preparing the avatar")
    assert isinstance(made, Prepared)
    return made


def render(
    engine: MuseTalkEngine, handle: Handle, body: BodyLoop, pcm: NDArray[np.int16]
) -> Iterator[tuple[Rgb, bool]]:
    """Every picture of the turn as RGB, and whether its mouth was drawn."""
    track = engine.track(handle, FPS, 0)
    track.append(pcm)
    track.end()
    size = engine.info.buckets[-1]
    for at in range(0, track.ready(), size):
        frames = range(at, min(at + size, track.ready()))
        outs = [bytearray(handle.rect(f).i420_size) for f in frames]
        rows = [Row(track, f, f % len(body), 1.0, memoryview(o)) for f, o in zip(frames, outs, strict=True)]
        ticket = engine.submit(rows)
        while (results := engine.collect(ticket, 0.1)) is None:
            pass
        for frame, out, result in zip(frames, outs, results, strict=True):
            picture = body.frame(frame).copy()
            if result.rect is not None:
                paste_i420(picture, body.width, body.height, result.rect, bytes(out))
            yield to_rgb(picture, body.width, body.height), result.kind == "mouth"


def write_clip(path: Path, pictures: list[Rgb], pcm: NDArray[np.int16]) -> None:
    """H.264 and AAC."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"crf": "18"})
        video.height, video.width = pictures[0].shape[:2]
        video.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=16_000, layout="mono")
        for rgb in pictures:
            container.mux(video.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(video.encode(None))
        sound = av.AudioFrame.from_ndarray(pcm[None], format="s16", layout="mono")
        sound.sample_rate = 16_000
        container.mux(audio.encode(sound))
        container.mux(audio.encode(None))


def judge(pictures: list[tuple[Rgb, bool]], body: BodyLoop, handle: Handle) -> Quality:
    """Seam and sharpness over the drawn pictures."""
    seams, sharp = [], []
    for n, (rgb, mouth) in enumerate(pictures):
        if not mouth:
            continue
        rect = handle.rect(n)
        plain = to_rgb(body.frame(n), body.width, body.height)
        seams.append(_edge_steps(rgb, rect) / max(_edge_steps(plain, rect), 0.1))
        sharp.append(_detail(rgb, rect) / max(_detail(plain, rect), 1e-3))
    nothing = float("nan")
    return Quality(*(float(np.median(v)) if v else nothing for v in (seams, sharp)))


def _edge_steps(rgb: Rgb, rect: Rect) -> float:
    """Mean step between the lines on either side of the rectangle's edges."""
    grey = rgb.astype(np.float32).mean(axis=2)
    x, y, w, h = rect
    steps = [
        np.abs(grey[y : y + h, x] - grey[y : y + h, max(x - 1, 0)]),
        np.abs(grey[y : y + h, x + w - 1] - grey[y : y + h, min(x + w, grey.shape[1] - 1)]),
        np.abs(grey[y + h - 1, x : x + w] - grey[min(y + h, grey.shape[0] - 1), x : x + w]),
        np.abs(grey[y, x : x + w] - grey[max(y - 1, 0), x : x + w]),
    ]
    return float(np.concatenate(steps).mean())


def _detail(rgb: Rgb, rect: Rect) -> float:
    x, y, w, h = rect
    inner = rgb[y + h // 4 : y + 3 * h // 4, x + w // 4 : x + 3 * w // 4]
    return float(cv2.Laplacian(cv2.cvtColor(inner, cv2.COLOR_RGB2GRAY), cv2.CV_32F).std())


def contact_sheet(pictures: list[tuple[Rgb, bool]], handle: Handle) -> Rgb:
    """Three rows of eight: the face of 24 pictures spread over the clip."""
    area = handle.largest_rect
    chosen = np.linspace(0, len(pictures) - 1, 24).astype(int)
    tall, wide = pictures[0][0].shape[:2]
    y1, y2 = max(area.y - area.height, 0), min(area.y + area.height * 3 // 2, tall)
    x1, x2 = max(area.x - area.width // 3, 0), min(area.x + area.width * 4 // 3, wide)
    tiles = [cv2.resize(pictures[int(n)][0][y1:y2, x1:x2], (192, 240)) for n in chosen]
    rows = [np.concatenate(tiles[at : at + 8], axis=1) for at in range(0, 24, 8)]
    return np.asarray(np.concatenate(rows), np.uint8)
