"""A RoomKit avatar provider of one's own: the ``MyAvatarProvider`` of RoomKit's guide, in full.

What an ``AudioVideoChannel`` needs of one is all here, with a picture that is only a bar as high as the voice is
loud. It is a synchronous provider: ``feed_audio`` returns the pictures of the audio it is given. For a provider
over a server of another kind, see ``ServerAvatarProvider`` in docs/library.md.
"""

from __future__ import annotations

import numpy as np

from visavis import AvatarProvider
from visavis.roomkit import VideoFrame


class MyAvatarProvider(AvatarProvider):
    """A bar that follows the voice; the reference image is not looked at."""

    def __init__(self, fps: int = 30, color: tuple[int, int, int] = (230, 80, 60)) -> None:
        self._fps = fps
        self._color = color
        self._size: tuple[int, int] | None = None
        self._samples = np.zeros(0, np.int16)
        self._sequence = 0

    @property
    def name(self) -> str:
        return "my-avatar"

    @property
    def fps(self) -> int:
        return self._fps

    @property
    def is_started(self) -> bool:
        return self._size is not None

    async def start(self, reference_image: bytes, *, width: int = 512, height: int = 512) -> None:
        self._size = (width, height)

    def feed_audio(self, pcm_data: bytes, sample_rate: int = 16000) -> list[VideoFrame]:
        """One picture for each 1/fps s of sound; what is left over waits for the next call."""
        if self._size is None:
            return []
        self._samples = np.concatenate((self._samples, np.frombuffer(pcm_data, "<i2")))
        step = round(sample_rate / self._fps)
        pictures = []
        while len(self._samples) >= step:
            heard, self._samples = self._samples[:step], self._samples[step:]
            pictures.append(self._picture(float(np.sqrt(np.mean(np.square(heard, dtype=np.float64))))))
        return pictures

    def flush(self) -> list[VideoFrame]:
        """The voice is over: the bar goes down."""
        self._samples = self._samples[:0]
        idle = self.get_idle_frame()
        return [idle] if idle else []

    def get_idle_frame(self) -> VideoFrame | None:
        return self._picture(0.0) if self._size is not None else None

    async def stop(self) -> None:
        self._size = None

    def _picture(self, loudness: float) -> VideoFrame:
        assert self._size is not None
        width, height = self._size
        picture = np.full((height, width, 3), 40, np.uint8)
        top = height - round(height * min(1.0, 0.05 + loudness / 8000))
        picture[top:, width // 3 : 2 * width // 3] = self._color
        self._sequence += 1
        return VideoFrame(
            picture.tobytes(), "raw_rgb24", width, height, keyframe=True, sequence=self._sequence
        )
