"""Video bytes from a stranger to upright RGB frames at a steady rate.

The container is recognised by hand before a decoder sees it: FFmpeg also reads playlists, which name other
files. Frames are decoded anew on every pass over a :class:`VideoClip`, so that only one is in memory.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait.image import ImageRejected, read_header

MOST_RATE = 240  # frames a second that a clip may hold
_OPTIONS = "protocol_whitelist;file|format_whitelist;mov,matroska"


@dataclass(frozen=True)
class VideoLimits:
    """What is accepted: bytes of the file, pixels of a picture, its shortest side, seconds of the clip."""

    max_bytes: int = 40 * 1024 * 1024
    max_pixels: int = 1920 * 1920
    min_side: int = 80
    max_s: float = 10.0


def check_container(data: bytes) -> None:
    """Raise :class:`ImageRejected` unless this begins as an MP4, MOV, WebM or MKV file does."""
    if data[4:8] in (b"ftyp", b"moov", b"wide", b"mdat", b"free", b"skip") and data[8:12] not in (
        *(b"heic", b"heix", b"mif1", b"avif"),
    ):
        return
    if data.startswith(b"\x1aE\xdf\xa3"):
        return
    try:
        kind = read_header(data).format
    except ImageRejected:
        raise ImageRejected("This is not a video in a known format: send an MP4, MOV or WebM file.") from None
    raise ImageRejected(f"This is a {kind} picture, not a video: send it as an image.")


class VideoClip:
    """The frames of a video at ``fps``, each the source frame nearest in time; ``(h, w, 3)`` uint8 RGB, turned
    upright. Raises :class:`ImageRejected` with one sentence for whoever sent it."""

    def __init__(self, data: bytes, fps: Fraction, limits: VideoLimits | None = None) -> None:
        self._limits = limits = limits or VideoLimits()
        if len(data) > limits.max_bytes:
            raise ImageRejected(
                f"The video's file has {len(data) / 2**20:.1f} MiB and at most "
                f"{limits.max_bytes / 2**20:.0f} are accepted: save it smaller."
            )
        check_container(data)
        self.fps = fps
        self._file = os.memfd_create("clip")
        with open(self._file, "wb", closefd=False) as file:
            file.write(data)
        self._chosen = self._choose(self._times())

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __len__(self) -> int:
        return len(self._chosen)

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        reader, at = self._open(), -1
        for chosen in self._chosen:
            while at < chosen:
                if not reader.grab():
                    raise ImageRejected(_DAMAGED)
                at += 1
            there, bgr = reader.retrieve()
            if not there or bgr is None or bgr.ndim != 3:
                raise ImageRejected(_DAMAGED)
            yield np.ascontiguousarray(bgr[..., ::-1], np.uint8)

    def _open(self) -> cv2.VideoCapture:
        os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", _OPTIONS)
        reader = cv2.VideoCapture(f"/proc/self/fd/{self._file}", cv2.CAP_FFMPEG)
        if not reader.isOpened():
            raise ImageRejected(_DAMAGED)
        width, height = (int(reader.get(p)) for p in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        limits = self._limits
        if width * height > limits.max_pixels:
            raise ImageRejected(
                f"The video is {width}x{height} and at most {limits.max_pixels / 1e6:.1f} megapixels are "
                "accepted: save it smaller."
            )
        if min(width, height) < limits.min_side:
            raise ImageRejected(
                f"The video is {width}x{height}: its shorter side needs at least {limits.min_side} pixels."
            )
        return reader

    def _times(self) -> list[float]:
        """Seconds of every frame from the first one on."""
        reader, times, first = self._open(), list[float](), 0.0
        most = self._limits.max_s
        while reader.grab():
            now = reader.get(cv2.CAP_PROP_POS_MSEC) / 1000
            first = first if times else now
            times.append(max(now - first, times[-1] if times else 0.0))
            if times[-1] > most or len(times) > most * MOST_RATE:
                raise ImageRejected(f"The video is longer than {most:g} s: cut a shorter piece out of it.")
        if not times:
            raise ImageRejected(_DAMAGED)
        return times

    def _choose(self, times: list[float]) -> list[int]:
        middles = [(a + b) / 2 for a, b in pairwise(times)]
        count = int(times[-1] * self.fps) + 1
        return [bisect_right(middles, float(k / self.fps)) for k in range(count)]


_DAMAGED = "The video cannot be decoded: it is damaged or of an unknown kind, save it as MP4 (H.264)."
