"""Where the avatar side plugs into a media worker: who owns a call's voice and face."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.session import MediaSession
from orchestrator.media.sources import Face, Hearing, Voice
from orchestrator.worker.host import MediaHost

Emit = Callable[[str, dict[str, Any], bytes], None]
"""``emit(name, data, payload)`` sends a ``Notice`` to the control process."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """What the owner of a call is given; ``fail`` ends the call with one sentence."""

    call_id: str
    audio: AudioParameters
    video: VideoParameters | None
    session: MediaSession
    emit: Emit
    fail: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a factory is given at the start of its worker."""

    host: MediaHost
    emit: Emit
    options: dict[str, Any]


class CallOwner(Protocol):
    """One call's voice, face and commands. Everything runs in the worker's event loop, beside the clock."""

    @property
    def voice(self) -> Voice: ...
    @property
    def face(self) -> Face | None: ...
    @property
    def hearing(self) -> Hearing | None: ...

    def command(self, name: str, data: dict[str, Any], payload: bytes) -> None:
        """A ``Command`` for this call."""

    def configured(self, audio: AudioParameters, video: VideoParameters | None) -> None:
        """The parameters changed mid-call."""

    async def close(self) -> None:
        """The call has ended; its media is stopped already."""


class CallFactory(Protocol):
    """Made once per worker by the function that ``Setup.factory`` names, without arguments."""

    async def start(self, worker: WorkerContext) -> None:
        """Before the first call; must not take long."""

    def open(self, call: CallContext, options: dict[str, Any], payload: bytes) -> CallOwner:
        """The owner of a call that starts. Raises ``ValueError`` with one sentence to refuse it."""

    def command(self, name: str, data: dict[str, Any], payload: bytes) -> None:
        """A ``Command`` for no call."""

    async def close(self) -> None:
        """The worker ends."""


def load_factory(name: str) -> CallFactory:
    """The factory named ``module:function``; raises ``ValueError`` where there is none."""
    module, _, attribute = name.partition(":")
    try:
        make = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"no call factory {name!r}: {error}") from error
    return cast(CallFactory, make())
