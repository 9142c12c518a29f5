"""A provider without a server, for tests of what stands around it."""

from __future__ import annotations

import contextlib
import importlib
import io
from typing import Any

from visavis.roomkit.types import AvatarProvider, VideoFrame


class MockAvatarProvider(AvatarProvider):
    """The portrait for each chunk of audio and while idle; a solid colour where Pillow cannot read it.

    ``idle_color=None`` shows nothing while idle. Counts what was asked of it: ``feed_count``,
    ``total_audio_bytes``, ``flush_count``, ``idle_count``.
    """

    def __init__(
        self,
        *,
        fps: int = 30,
        color: tuple[int, int, int] = (0, 200, 0),
        idle_color: tuple[int, int, int] | None = (128, 128, 128),
    ) -> None:
        self._fps = fps
        self._color = color
        self._idle_color = idle_color
        self._size: tuple[int, int] | None = None
        self._portrait: bytes | None = None
        self._sequence = 0
        self.feed_count = 0
        self.total_audio_bytes = 0
        self.flush_count = 0
        self.idle_count = 0

    @property
    def name(self) -> str:
        return "mock"

    @property
    def fps(self) -> int:
        return self._fps

    @property
    def is_started(self) -> bool:
        return self._size is not None

    @property
    def width(self) -> int:
        """Of the pictures, in pixels."""
        return self._size[0] if self._size else 0

    @property
    def height(self) -> int:
        """Of the pictures, in pixels."""
        return self._size[1] if self._size else 0

    async def start(self, reference_image: bytes, *, width: int = 512, height: int = 512) -> None:
        self._size = (width, height)
        self._portrait = _rgb_of(reference_image, width, height)

    def feed_audio(self, pcm_data: bytes, sample_rate: int = 16000) -> list[VideoFrame]:
        if self._size is None:
            return []
        self.feed_count += 1
        self.total_audio_bytes += len(pcm_data)
        return [self._picture(self._color, self._size)]

    def get_idle_frame(self) -> VideoFrame | None:
        if self._size is None or self._idle_color is None:
            return None
        self.idle_count += 1
        return self._picture(self._idle_color, self._size)

    def flush(self) -> list[VideoFrame]:
        if self._size is None:
            return []
        self.flush_count += 1
        return [self._picture(self._color, self._size)]

    async def stop(self) -> None:
        self._size = None

    def _picture(self, color: tuple[int, int, int], size: tuple[int, int]) -> VideoFrame:
        self._sequence += 1
        width, height = size
        return VideoFrame(
            data=self._portrait or bytes(color) * (width * height),
            codec="raw_rgb24",
            width=width,
            height=height,
            keyframe=True,
            sequence=self._sequence,
        )


def _rgb_of(file: bytes, width: int, height: int) -> bytes | None:
    """Packed RGB24 of an image file in this size; ``None`` where nothing here reads it."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        pillow: Any = importlib.import_module("PIL.Image")
        with pillow.open(io.BytesIO(file)) as image:
            data: bytes = image.convert("RGB").resize((width, height)).tobytes()
            return data
    return None
