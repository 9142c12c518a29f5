"""The former place of :class:`visavis.roomkit.provider.ServerAvatarProvider`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from visavis.deprecated import moved

if TYPE_CHECKING:
    from visavis.roomkit.provider import ServerAvatarProvider as ServerAvatarProvider
else:
    __getattr__ = moved(__name__, {"ServerAvatarProvider": "visavis.roomkit.provider:ServerAvatarProvider"})
