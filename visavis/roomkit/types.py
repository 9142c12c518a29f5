"""RoomKit's avatar interface (``roomkit.video.avatar``, 0.109): the real one where RoomKit is installed, the
same shape without it."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

__all__ = ["AvatarProvider", "VideoFrame"]


@dataclass
class VideoFrame:
    """One picture. ``data`` holds packed pixels for the codecs ``raw_rgb24`` and ``raw_yuv420p``."""

    data: bytes
    codec: str = "h264"
    width: int = 640
    height: int = 480
    timestamp_ms: float | None = None
    keyframe: bool = False
    sequence: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def is_encoded(self) -> bool:
        """``data`` is compressed."""
        return not self.is_raw

    @property
    def is_raw(self) -> bool:
        """``data`` is pixels."""
        return self.codec.startswith("raw_")


class AvatarProvider(ABC):
    """What RoomKit asks of an avatar: see each method."""

    @property
    @abstractmethod
    def name(self) -> str:
        """A short name, for logs."""

    @property
    @abstractmethod
    def fps(self) -> int:
        """Pictures per second."""

    @property
    def is_started(self) -> bool:
        """:meth:`start` was called and :meth:`stop` was not."""
        return False

    @property
    def is_async(self) -> bool:
        """Pictures come through :meth:`on_video`, :meth:`feed_audio` returns none."""
        return False

    @abstractmethod
    async def start(self, reference_image: bytes, *, width: int = 512, height: int = 512) -> None:
        """Get ready to show the portrait in the bytes of an image file."""

    @abstractmethod
    def feed_audio(self, pcm_data: bytes, sample_rate: int = 16000) -> list[VideoFrame]:
        """Speech, s16le mono of any length; returns the pictures that are due in synchronous mode."""

    def end_turn(self) -> None:  # noqa: B027
        """The voice has said what it had to say."""

    def on_video(self, callback: Callable[[VideoFrame], Any]) -> None:  # noqa: B027
        """Have ``callback`` called with every picture in asynchronous mode."""

    def get_idle_frame(self) -> VideoFrame | None:
        """The picture that is due while nobody speaks; call ``fps`` times a second."""
        return None

    def flush(self) -> list[VideoFrame]:
        """End the turn; returns what is left of it in synchronous mode."""
        return []

    @abstractmethod
    async def stop(self) -> None:
        """Let go of everything."""

    async def close(self) -> None:
        """The same as :meth:`stop`."""
        await self.stop()


if not TYPE_CHECKING:
    with contextlib.suppress(ImportError):
        from roomkit.video.avatar.base import AvatarProvider
        from roomkit.video.video_frame import VideoFrame
