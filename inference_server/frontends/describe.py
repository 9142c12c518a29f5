"""What a server tells of itself, of an avatar and of an open stream, in the contract's values."""

from __future__ import annotations

from dataclasses import fields
from importlib.metadata import version

from inference_server.avatars.store import StoredAvatar
from inference_server.core import Core
from inference_server.engines.base import EngineInfo
from inference_server.streams.stream import Stream
from visavis.avatar.v1.contract import FIELDS, Avatar, Capabilities, Limits, Opened
from visavis.frames import SAMPLE_RATE

_TOLD = {f.name for f in FIELDS[Opened]}
_IN_SAMPLES = tuple(f.name for f in fields(EngineInfo) if f"{f.name}_ms" in _TOLD)
"""Fields of ``EngineInfo`` that the contract has in milliseconds."""


def avatar(stored: StoredAvatar) -> Avatar:
    """Ids, size and loop."""
    body = stored.body
    return Avatar(
        avatar_id=stored.avatar_id,
        body_id=body.body_id,
        body_sha256=body.sha256,
        width=body.width,
        height=body.height,
        fps=body.fps,
        loop_length=len(body),
        jumps=tuple((int(a), int(b)) for a, b in body.jumps),
        segments=body.segments,
    )


def capabilities(core: Core) -> Capabilities:
    """What this server is and can do now."""
    s, loaded = core.settings, core.devices.loaded
    info = loaded.info if loaded else {}
    return Capabilities(
        engine=info.get("name", s.engine),
        build=info.get("build", ""),
        version=version("visavis"),
        pixel_formats=("i420", "rgb24"),
        max_width=min(s.max_width, info.get("max_width", s.max_width)),
        max_height=min(s.max_height, info.get("max_height", s.max_height)),
        **_times(core),
        speaking_slots=core.slots,
        max_sessions=s.max_sessions,
        ready=core.ready,
        draining=core.draining,
        not_ready_reason=core.not_ready_reason,
        limits=Limits(
            image_bytes=s.image_bytes,
            image_pixels=s.image_pixels,
            video_bytes=s.video_bytes,
            video_ms=round(s.video_s * 1000),
            audio_bytes=s.audio_bytes,
            turn_ms=s.turn_ms,
            idle_ms=s.idle_ms,
            window_ms=s.window_ms,
        ),
    )


def opened(core: Core, stream: Stream) -> Opened:
    """The answer to Open."""
    return Opened(
        avatar=avatar(stream.avatar),
        pixel_format=stream.pictures.format,
        scope=stream.pictures.scope,
        largest_rect=stream.devices.largest_rect,
        **_times(core),
        window_ms=core.settings.window_ms,
        closing_frames=stream.session.parameters.closing_frames,
    )


def _times(core: Core) -> dict[str, int]:
    """What the engine tells in samples, in ms as the contract tells it, rounded up."""
    info = core.devices.loaded.info if core.devices.loaded else {}
    return {f"{name}_ms": -(-info.get(name, 0) * 1000 // SAMPLE_RATE) for name in _IN_SAMPLES}
