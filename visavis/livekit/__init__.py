"""LiveKit Agents with a face: a ``VideoGenerator`` for its ``AvatarRunner``, an ``AvatarSession`` around both."""

from __future__ import annotations

try:
    from visavis.livekit.avatar import VisavisAvatarSession
    from visavis.livekit.generator import VisavisVideoGenerator
except ImportError as e:
    raise ImportError(
        "visavis.livekit needs LiveKit Agents: pip install '.[livekit]' in a checkout of Visavis"
    ) from e

__all__ = ["VisavisAvatarSession", "VisavisVideoGenerator"]
