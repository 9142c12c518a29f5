"""What a server told, checked before it is believed: the same for every transport."""

from __future__ import annotations

from dataclasses import replace

from visavis.client.model import Avatar, Opened
from visavis.errors import ProtocolError
from visavis.frames import Frame

_FASTEST = 240
_LONGEST = 1 << 20  # loop frames, and
_MOST_BYTES = 1 << 36  # of their pixels: beyond what any body has, and what a client can still take
_WINDOW_MS = 400  # of a server that does not tell


def checked_avatar(avatar: Avatar) -> Avatar:
    """The avatar without jumps and segments beyond its loop. Raises :class:`ProtocolError` where sizes make no
    sense."""
    if min(avatar.width, avatar.height, avatar.loop_length) < 1 or avatar.width % 2 or avatar.height % 2:
        raise ProtocolError(
            f"the server described an avatar of {avatar.width}x{avatar.height}, {avatar.loop_length} frames"
        )
    if avatar.loop_length > _LONGEST or avatar.loop_length * avatar.frame_bytes > _MOST_BYTES:
        raise ProtocolError(
            f"the server described a body of {avatar.loop_length} frames of {avatar.width}x{avatar.height}, more"
            " than a client takes"
        )
    if not 1 <= avatar.fps <= _FASTEST:
        raise ProtocolError(f"the server named the frame rate {avatar.fps}")
    jumps = tuple(jump for jump in avatar.jumps if all(0 <= index < avatar.loop_length for index in jump))
    segments = tuple(segment for segment in avatar.segments if 0 <= segment[0] < avatar.loop_length)
    if (jumps, segments) == (avatar.jumps, avatar.segments):
        return avatar
    return replace(avatar, jumps=jumps, segments=segments)


def checked_opened(opened: Opened) -> Opened:
    """The same with its avatar checked. Raises :class:`ProtocolError` where sizes make no sense."""
    avatar = checked_avatar(opened.avatar)
    if avatar is opened.avatar and opened.window_ms:
        return opened
    return replace(opened, avatar=avatar, window_ms=opened.window_ms or _WINDOW_MS)


def checked_frame(frame: Frame, opened: Opened) -> Frame:
    """The frame. Raises :class:`ProtocolError` where pixels and rectangle do not fit the picture."""
    avatar, rect = opened.avatar, frame.rect
    if frame.loop_index >= avatar.loop_length:
        raise ProtocolError(f"a frame names body frame {frame.loop_index}, beyond the loop")
    if rect is None or frame.pixels is None:
        if frame.kind != "body":
            raise ProtocolError("a mouth came without pixels")
        return frame
    try:
        rect.validate(avatar.width, avatar.height)
    except ValueError as e:
        raise ProtocolError(f"a frame came with a bad rectangle: {e}") from None
    size = rect.i420_size if opened.pixel_format == "i420" else rect.width * rect.height * 3
    if len(frame.pixels) != size:
        raise ProtocolError(f"a frame of {rect.width}x{rect.height} came with {len(frame.pixels)} bytes")
    return frame
