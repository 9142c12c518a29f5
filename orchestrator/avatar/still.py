"""A portrait as one still picture, for calls that no inference server can help yet."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import av
import numpy as np

from orchestrator.media.sources import StillBody
from visavis.frames import I420

_GREY = 96


def still_body(data: bytes, width: int, height: int) -> StillBody:
    """The picture cropped around its upper middle to ``width`` x ``height``; grey where it cannot be read."""
    try:
        frame = _fit(data, width, height)
    except (av.FFmpegError, ValueError, IndexError, StopIteration):
        frame = np.full((height * 3 // 2, width), 128, np.uint8)
        frame[:height] = _GREY
    return StillBody(f"still-{hashlib.sha256(data).hexdigest()[:16]}-{width}x{height}", frame[None])


def _fit(data: bytes, width: int, height: int) -> I420:
    file: Any = av.open(io.BytesIO(data))
    with file:
        picture = next(file.decode(video=0))
    scale = max(width / picture.width, height / picture.height)
    wide, tall = max(width, round(picture.width * scale)), max(height, round(picture.height * scale))
    rgb = picture.reformat(wide, tall, "rgb24").to_ndarray()
    x, y = (wide - width) // 2, (tall - height) // 4  # faces are in the upper half of portraits
    crop = np.ascontiguousarray(rgb[y : y + height, x : x + width])
    frame: Any = av.VideoFrame.from_ndarray(crop, format="rgb24").reformat(format="yuv420p")
    out: I420 = frame.to_ndarray()
    return out


def read_portrait(path: Path) -> bytes:
    """The file's bytes, empty where it is gone."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
