"""A tiny MuseTalk on the CPU, a body to draw on, and speech."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from inference_server.engines.base import BodyLoop, Handle, Prepared, Result, Row, Track
from inference_server.engines.musetalk import MuseTalkEngine, face
from testing import musetalk_weights
from tests.support.house import speech as speech
from tests.support.leftovers import keep

torch.set_num_threads(1)
FPS = Fraction(25)


@functools.cache
def checkpoint() -> Path:
    """A folder with a tiny random checkpoint of both versions, made once."""
    folder = tempfile.TemporaryDirectory(prefix="musetalk-tiny-")
    _KEPT.append(folder)
    root = keep(Path(folder.name)) / "models"
    musetalk_weights.write(root, "tiny", seed=1, versions=("v15", "v1"))
    return root


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def settings(**changes: str) -> dict[str, str]:
    """Engine settings for the tiny checkpoint."""
    root = checkpoint()
    return {
        "musetalk_dir": str(root),
        "cache_dir": str(root.parent / "cache"),
        "batch_size": "4",
        "avatar_mb": "8",
        "device": "cpu",
        "threads": "1",
        **changes,
    }


def loaded(**changes: str) -> MuseTalkEngine:
    """An engine that is ready."""
    engine = MuseTalkEngine(settings(**changes))
    engine.load(lambda progress, sentence: None)
    return engine


def mesh(x: float, y: float, wide: float, tall: float) -> NDArray[np.float32]:
    """``(468, 2)``: an oval face whose nose and lips are where a face has them."""
    points = np.full((468, 2), (x, y), np.float32)
    angle = np.linspace(0, 2 * np.pi, len(face.OVAL), endpoint=False) - np.pi / 2
    points[list(face.OVAL)] = np.stack([x + wide / 2 * np.cos(angle), y + tall / 2 * np.sin(angle)], 1)
    points[list(face.NOSE)] = (x, y + tall * 0.05)
    points[[5, 195]] = (x, y)
    lips = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    points[list(face.LIPS[:12])] = np.stack(
        [x + wide * 0.2 * np.cos(lips), y + tall * 0.25 + tall * 0.06 * np.sin(lips)], 1
    )
    return points


def body(
    different: int = 4, *, there_and_back: bool = False, width: int = 240, height: int = 200, wide: float = 90
) -> BodyLoop:
    """A textured loop in which the face walks a pixel and a half a frame."""
    order = [*range(different), *range(different - 2, 0, -1)] if there_and_back else list(range(different))
    rng = np.random.default_rng(5)
    coarse = rng.integers(30, 226, (height * 3 // 16, width // 8)).astype(np.uint8)
    smooth = np.asarray(cv2.resize(coarse, (width, height * 3 // 2), interpolation=cv2.INTER_LINEAR))
    frames = np.stack([np.roll(smooth, 2 * i, axis=1) for i in order])
    points = np.stack([mesh(width / 2 - 4 + 1.5 * i, height / 2, wide, wide * 1.3) for i in order])
    return BodyLoop(
        "body",
        width,
        height,
        FPS,
        frames,
        points,
        np.zeros((len(order), 2, 3), np.float32),
        np.zeros((height, width, 3), np.uint8),
        (),
        b"",
    )


def prepared(engine: MuseTalkEngine, loop: BodyLoop) -> Prepared:
    """All steps of the preparation."""
    last = list(engine.prepare(loop, {}))[-1]
    assert isinstance(last, Prepared)
    return last


def said(engine: MuseTalkEngine, handle: Handle, pcm: NDArray[np.int16], end: bool = True) -> Track:
    """A track that has heard all of it."""
    track = engine.track(handle, FPS, 0)
    track.append(pcm)
    if end:
        track.end()
    return track


def draw(
    engine: MuseTalkEngine,
    handle: Handle,
    track: Track,
    frames: Sequence[int],
    loop: Sequence[int] | None = None,
    alpha: float = 1.0,
) -> tuple[list[Result], list[bytes]]:
    """One batch. ``loop``: the loop index of each frame, else the frame's own number."""
    places = list(frames) if loop is None else list(loop)
    outs = [bytearray(handle.rect(i).i420_size) for i in places]
    rows = [Row(track, f, i, alpha, memoryview(o)) for f, i, o in zip(frames, places, outs, strict=True)]
    results = engine.collect(engine.submit(rows), 1.0)
    assert results is not None
    return results, [bytes(o) for o in outs]
