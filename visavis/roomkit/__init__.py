"""RoomKit's avatar interface and the providers that implement it."""

from visavis.roomkit.types import AvatarProvider, VideoFrame

__all__ = ["AvatarProvider", "VideoFrame"]
