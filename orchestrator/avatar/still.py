"""A portrait as one still picture, for calls that no inference server can help yet."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np

from orchestrator.media.sources import StillBody
from visavis.frames import I420

_GREY = 96
_MOST_PIXELS = 50_000_000
"""A server takes no larger portrait either."""
_MIRRORED = (bytes.fromhex("01120003000000010002"), bytes.fromhex("12010300010000000200"))
"""EXIF orientation 2, mirrored and not turned, which the decoder tells as a half turn; in either byte order."""


def grey_body(width: int, height: int) -> StillBody:
    """Nothing but grey, while there is no picture."""
    frame = np.full((height * 3 // 2, width), 128, np.uint8)
    frame[:height] = _GREY
    return StillBody(f"grey-{width}x{height}", frame[None])


def fit(data: bytes, width: int, height: int) -> I420 | None:
    """The picture cropped around its upper middle to ``width`` x ``height``; ``None`` where it cannot be read.

    Takes 20 ms, with a large picture 200. For a process in a sandbox: ``data`` is anybody's.
    """
    try:
        return _fit(data, width, height)
    except (av.FFmpegError, ValueError, IndexError, StopIteration, MemoryError):
        return None


def _fit(data: bytes, width: int, height: int) -> I420:
    limits: Any = {"max_pixels": str(_MOST_PIXELS)}  # the decoder's own, so that none is begun
    file: Any = av.open(io.BytesIO(data), options=limits)
    with file:
        file.streams.video[0].codec_context.options = limits
        picture = next(file.decode(video=0))
    quarters = _quarters(picture, data)
    across, down = (picture.width, picture.height)[:: -1 if quarters % 2 else 1]
    scale = max(width / across, height / down)
    wide, tall = max(width, round(across * scale)), max(height, round(down * scale))
    if wide * tall > _MOST_PIXELS:
        raise ValueError("too long and thin")
    stored = (wide, tall)[:: -1 if quarters % 2 else 1]
    rgb = np.rot90(picture.reformat(*stored, "rgb24").to_ndarray(), quarters)
    x, y = (wide - width) // 2, (tall - height) // 4  # faces are in the upper half of portraits
    crop = np.ascontiguousarray(rgb[y : y + height, x : x + width])
    frame: Any = av.VideoFrame.from_ndarray(crop, format="rgb24").reformat(format="yuv420p")
    out: I420 = frame.to_ndarray()
    return out


def _quarters(picture: Any, data: bytes) -> int:
    """How many quarter turns counterclockwise set it upright, by its EXIF orientation.

    One that is mirrored as well stays so: a face does not show it.
    """
    quarters: int = picture.rotation // 90
    return 0 if quarters % 4 == 2 and any(mark in data for mark in _MIRRORED) else quarters
