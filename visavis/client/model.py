"""Plain values of the contract: avatars, what a server can do, how busy it is."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from visavis.avatar.v1.contract import Avatar as Avatar
from visavis.avatar.v1.contract import Capabilities as Capabilities
from visavis.avatar.v1.contract import Capacity as Capacity
from visavis.avatar.v1.contract import Fit as FitMode
from visavis.avatar.v1.contract import FrameScope as Scope
from visavis.avatar.v1.contract import Limits as Limits
from visavis.avatar.v1.contract import Opened as Opened
from visavis.avatar.v1.contract import PixelFormat as PixelFormat
from visavis.frames import SAMPLE_RATE

__all__ = [
    "Avatar",
    "AvatarSource",
    "Capabilities",
    "Capacity",
    "FitMode",
    "Limits",
    "Opened",
    "PixelFormat",
    "Scope",
    "settled",
]


@dataclass(frozen=True)
class AvatarSource:
    """What an avatar is prepared from, kept so that any server can prepare it again.

    ``image`` holds the bytes of a JPEG, PNG, WebP... file, or of an MP4, MOV or WebM file with ``video``: a short
    clip, played there and back. ``fit`` is a crop around head and shoulders or the
    whole picture letterboxed; ``settings`` are the engine's own.
    """

    image: bytes
    width: int = 512
    height: int = 512
    fps: Fraction = Fraction(25)
    fit: FitMode = "crop"
    settings: Mapping[str, str] = field(default_factory=dict)
    video: bool = False

    @functools.cached_property
    def digest(self) -> str:
        """Names this source within a process."""
        about = f"{self.width}x{self.height}@{self.fps} {self.fit} {sorted(self.settings.items())}"
        return hashlib.sha256(about.encode() + b"\0" + self.image).hexdigest()


def settled(opened: Opened, samples: int) -> int:
    """How many samples of a turn can be drawn once ``samples`` have come, while more are still to come."""
    return max(0, samples - opened.look_ahead_ms * SAMPLE_RATE // 1000)
