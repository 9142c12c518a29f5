"""Plain values of the contract: avatars, what a server can do, how busy it is."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from visavis.frames import Rect

FitMode = Literal["crop", "contain"]
Scope = Literal["rectangle", "whole"]
PixelFormat = Literal["i420", "rgb24"]


@dataclass(frozen=True)
class Avatar:
    """A prepared avatar: a loop of ``loop_length`` pictures of ``width`` x ``height`` pixels at ``fps``.

    ``avatar_id`` is the engine's, ``body_id`` that of the loop, ``body_sha256`` the digest of its pixels (I420, all
    frames in order). ``jumps``: pairs (from, to) of loop indices; after ``from``, ``to`` may follow.
    """

    avatar_id: str
    body_id: str
    body_sha256: bytes
    width: int
    height: int
    fps: Fraction
    loop_length: int
    jumps: tuple[tuple[int, int], ...] = ()

    @property
    def frame_bytes(self) -> int:
        """Bytes of one body frame in I420."""
        return self.width * self.height * 3 // 2


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


@dataclass(frozen=True)
class Capabilities:
    """What a server is and can do.

    Sizes in pixels. ``look_ahead_ms``: audio after a frame that the engine needs to draw it; ``history_ms``: audio
    before it. A server speaks ``speaking_slots`` turns at once in at most ``max_sessions`` conversations (0: no
    bound). ``not_ready_reason`` is one sentence, empty where it is ready.
    """

    engine: str
    build: str
    version: str
    pixel_formats: tuple[PixelFormat, ...]
    max_width: int
    max_height: int
    look_ahead_ms: int
    history_ms: int
    speaking_slots: int
    max_sessions: int
    ready: bool
    draining: bool
    not_ready_reason: str
    audio_bytes: int  # most bytes of one Audio message; 0: not told
    turn_ms: int  # longest turn; 0: not told
    window_ms: int  # how far past the playhead frames are rendered; 0: not told


@dataclass(frozen=True)
class Capacity:
    """How busy a server is, as it tells whenever that changes; 0 slots or ``max_sessions``: no bound.

    ``avatar_ids``: the avatars that are prepared there.
    """

    speaking_slots: int
    speaking_slots_free: int
    sessions: int
    max_sessions: int
    ready: bool
    draining: bool
    avatar_ids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Opened:
    """A server's answer to opening a conversation: what was agreed.

    ``largest_rect``: no mouth reaches beyond it. Frames are sent up to ``window_ms`` past the playhead;
    ``closing_frames`` of them may follow the last sample of a turn. For ``look_ahead_ms`` and ``history_ms`` see
    :class:`Capabilities`.
    """

    avatar: Avatar
    pixel_format: PixelFormat
    scope: Scope
    largest_rect: Rect | None
    look_ahead_ms: int
    history_ms: int
    window_ms: int
    closing_frames: int
