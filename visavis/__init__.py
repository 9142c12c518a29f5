"""A face for voice calls: stream speech in, lip-synced video frames out.

A face that says what it is fed (:class:`AvatarSession`), the contract's client (:class:`AvatarClient`,
:class:`ServerPool`, :class:`AvatarStream`), what decides which picture is due (:class:`Playout`), the body cache,
and RoomKit-shaped providers. Names are imported when they are first used, so that ``visavis.frames`` alone costs
neither gRPC nor RoomKit.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from visavis.audio import Resampler as Resampler
    from visavis.client.avatar_client import AvatarClient as AvatarClient
    from visavis.client.body_cache import Body as Body
    from visavis.client.body_cache import BodyCache as BodyCache
    from visavis.client.credentials import ServerCredentials as ServerCredentials
    from visavis.client.http import HttpServerClient as HttpServerClient
    from visavis.client.messages import AvatarReplaced as AvatarReplaced
    from visavis.client.messages import Connected as Connected
    from visavis.client.messages import Disconnected as Disconnected
    from visavis.client.messages import GoAway as GoAway
    from visavis.client.messages import Interrupted as Interrupted
    from visavis.client.messages import Stats as Stats
    from visavis.client.messages import TurnAccepted as TurnAccepted
    from visavis.client.messages import TurnFinished as TurnFinished
    from visavis.client.messages import TurnRejected as TurnRejected
    from visavis.client.model import Avatar as Avatar
    from visavis.client.model import AvatarSource as AvatarSource
    from visavis.client.model import Capabilities as Capabilities
    from visavis.client.model import Capacity as Capacity
    from visavis.client.model import Opened as Opened
    from visavis.client.placement import Placement as Placement
    from visavis.client.pool import ServerPool as ServerPool
    from visavis.client.start_delay import StartDelay as StartDelay
    from visavis.client.stream import AvatarStream as AvatarStream
    from visavis.errors import AccessDenied as AccessDenied
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
    from visavis.playout.playout import Picture as Picture
    from visavis.playout.playout import Playout as Playout
    from visavis.roomkit.channel import AvatarVideoChannel as AvatarVideoChannel
    from visavis.roomkit.channel import listen_to_caller as listen_to_caller
    from visavis.roomkit.channel import stop_lips_with_voice as stop_lips_with_voice
    from visavis.roomkit.grpc_provider import GrpcAvatarProvider as GrpcAvatarProvider
    from visavis.roomkit.http_provider import HTTPAvatarProvider as HTTPAvatarProvider
    from visavis.roomkit.mock_provider import MockAvatarProvider as MockAvatarProvider
    from visavis.roomkit.musetalk_provider import MuseTalkAvatarProvider as MuseTalkAvatarProvider
    from visavis.roomkit.realtime import listen_to_speech as listen_to_speech
    from visavis.roomkit.realtime import stop_lips_with_speech as stop_lips_with_speech
    from visavis.roomkit.types import AvatarProvider as AvatarProvider
    from visavis.session import AvatarSession as AvatarSession
    from visavis.session import FacePicture as FacePicture
    from visavis.session import SpeechFinished as SpeechFinished
    from visavis.session import SpeechStarted as SpeechStarted

_HOME = {
    "audio": ("Resampler",),
    "client.body_cache": ("Body", "BodyCache"),
    "client.avatar_client": ("AvatarClient",),
    "client.credentials": ("ServerCredentials",),
    "errors": (
        "AccessDenied",
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
    "roomkit.grpc_provider": ("GrpcAvatarProvider",),
    "client.http": ("HttpServerClient",),
    "roomkit.http_provider": ("HTTPAvatarProvider",),
    "client.messages": (
        "AvatarReplaced",
        "Connected",
        "Disconnected",
        "GoAway",
        "Interrupted",
        "Stats",
        "TurnAccepted",
        "TurnFinished",
        "TurnRejected",
    ),
    "roomkit.mock_provider": ("MockAvatarProvider",),
    "client.model": ("Avatar", "AvatarSource", "Capabilities", "Capacity", "Opened"),
    "roomkit.musetalk_provider": ("MuseTalkAvatarProvider",),
    "client.placement": ("Placement",),
    "playout.playout": ("Picture", "Playout"),
    "client.pool": ("ServerPool",),
    "roomkit.realtime": ("listen_to_speech", "stop_lips_with_speech"),
    "roomkit.types": ("AvatarProvider",),
    "session": ("AvatarSession", "FacePicture", "SpeechFinished", "SpeechStarted"),
    "client.start_delay": ("StartDelay",),
    "client.stream": ("AvatarStream",),
}
_WITH_ROOMKIT = {"roomkit.channel": ("AvatarVideoChannel", "listen_to_caller", "stop_lips_with_voice")}
"""Importable where RoomKit is."""
_MODULE_OF = {name: module for module, names in (_HOME | _WITH_ROOMKIT).items() for name in names}

__all__ = sorted(name for names in _HOME.values() for name in names)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return _version()
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'visavis' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"visavis.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _version() -> str:
    try:
        return metadata.version("visavis")
    except metadata.PackageNotFoundError:
        return "0+unknown"  # files on a path, not installed
