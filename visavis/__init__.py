"""A face for voice calls: stream speech in, lip-synced video frames out.

The contract's client (:class:`AvatarClient`, :class:`ServerPool`, :class:`AvatarStream`), what decides which
picture is due (:class:`Playout`), the body cache, and RoomKit-shaped providers. Names are imported when they
are first used, so that ``visavis.frames`` alone costs neither gRPC nor RoomKit.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from visavis.audio import Resampler as Resampler
    from visavis.body import Body as Body
    from visavis.body import BodyCache as BodyCache
    from visavis.channel import AvatarVideoChannel as AvatarVideoChannel
    from visavis.channel import stop_lips_with_voice as stop_lips_with_voice
    from visavis.client import AvatarClient as AvatarClient
    from visavis.errors import AvatarUnknown as AvatarUnknown
    from visavis.errors import BodyCorrupt as BodyCorrupt
    from visavis.errors import InvalidRequest as InvalidRequest
    from visavis.errors import ProtocolError as ProtocolError
    from visavis.errors import ProviderMisuse as ProviderMisuse
    from visavis.errors import ServerFull as ServerFull
    from visavis.errors import ServerStalled as ServerStalled
    from visavis.errors import ServerUnavailable as ServerUnavailable
    from visavis.errors import VisavisError as VisavisError
    from visavis.frames import Frame as Frame
    from visavis.frames import Rect as Rect
    from visavis.grpc_provider import GrpcAvatarProvider as GrpcAvatarProvider
    from visavis.http_client import HttpServerClient as HttpServerClient
    from visavis.http_provider import HTTPAvatarProvider as HTTPAvatarProvider
    from visavis.messages import Connected as Connected
    from visavis.messages import Disconnected as Disconnected
    from visavis.messages import GoAway as GoAway
    from visavis.messages import Interrupted as Interrupted
    from visavis.messages import Stats as Stats
    from visavis.messages import TurnAccepted as TurnAccepted
    from visavis.messages import TurnFinished as TurnFinished
    from visavis.messages import TurnRejected as TurnRejected
    from visavis.mock_provider import MockAvatarProvider as MockAvatarProvider
    from visavis.model import Avatar as Avatar
    from visavis.model import AvatarSource as AvatarSource
    from visavis.model import Capabilities as Capabilities
    from visavis.model import Capacity as Capacity
    from visavis.model import Opened as Opened
    from visavis.musetalk_provider import MuseTalkAvatarProvider as MuseTalkAvatarProvider
    from visavis.placement import Placement as Placement
    from visavis.playout import Picture as Picture
    from visavis.playout import Playout as Playout
    from visavis.pool import ServerPool as ServerPool
    from visavis.roomkit import AvatarProvider as AvatarProvider
    from visavis.startdelay import StartDelay as StartDelay
    from visavis.stream import AvatarStream as AvatarStream

_HOME = {
    "audio": ("Resampler",),
    "body": ("Body", "BodyCache"),
    "client": ("AvatarClient",),
    "errors": (
        "AvatarUnknown",
        "BodyCorrupt",
        "InvalidRequest",
        "ProtocolError",
        "ProviderMisuse",
        "ServerFull",
        "ServerStalled",
        "ServerUnavailable",
        "VisavisError",
    ),
    "frames": ("Frame", "Rect"),
    "grpc_provider": ("GrpcAvatarProvider",),
    "http_client": ("HttpServerClient",),
    "http_provider": ("HTTPAvatarProvider",),
    "messages": (
        "Connected",
        "Disconnected",
        "GoAway",
        "Interrupted",
        "Stats",
        "TurnAccepted",
        "TurnFinished",
        "TurnRejected",
    ),
    "mock_provider": ("MockAvatarProvider",),
    "model": ("Avatar", "AvatarSource", "Capabilities", "Capacity", "Opened"),
    "musetalk_provider": ("MuseTalkAvatarProvider",),
    "placement": ("Placement",),
    "playout": ("Picture", "Playout"),
    "pool": ("ServerPool",),
    "roomkit": ("AvatarProvider",),
    "startdelay": ("StartDelay",),
    "stream": ("AvatarStream",),
}
_WITH_ROOMKIT = {"channel": ("AvatarVideoChannel", "stop_lips_with_voice")}  # importable where RoomKit is
_MODULE_OF = {name: module for module, names in (_HOME | _WITH_ROOMKIT).items() for name in names}

__all__ = sorted(name for names in _HOME.values() for name in names)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'visavis' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"visavis.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
