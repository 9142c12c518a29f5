"""Where the avatar side plugs into a media worker: who owns a call's voice and face."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.media.sources import Face, Hearing, Voice
from orchestrator.worker.host import MediaHost
from orchestrator.worker.messages import AvatarSettings, Message, StartCall, ToFactory, ToOwner

Send = Callable[[Message], None]
"""The way to the control process."""


@dataclass(frozen=True, slots=True)
class CallContext:
    """What the owner of a call is given."""

    call_id: str
    audio: AudioParameters
    video: VideoParameters | None
    send: Send


@dataclass(frozen=True, slots=True)
class WorkerContext:
    """What a factory is given at the start of its worker."""

    host: MediaHost
    send: Send
    settings: AvatarSettings | None


class CallOwner(Protocol):
    """One call's voice, face and turns. Everything runs in the worker's event loop, beside the clock."""

    @property
    def voice(self) -> Voice: ...
    @property
    def face(self) -> Face | None: ...
    @property
    def hearing(self) -> Hearing | None: ...

    def take(self, message: ToOwner) -> None:
        """What the control process asks of this call's turns."""

    def configured(self, audio: AudioParameters, video: VideoParameters | None) -> None:
        """The parameters changed mid-call."""

    @property
    def patience(self) -> float:
        """Seconds that the start of media is worth waiting for, since the lips of the first word come; mostly 0."""

    def started(self) -> None:
        """Media are sent from now on."""

    async def close(self) -> None:
        """The call has ended; its media is stopped already."""


class CallFactory(Protocol):
    """Made once per worker by the function that ``Setup.factory`` names, without arguments."""

    async def start(self, worker: WorkerContext) -> None:
        """Before the first call; must not take long."""

    def open(self, call: CallContext, start: StartCall) -> CallOwner:
        """The owner of a call that starts. Raises ``ValueError`` with one sentence to refuse it."""

    def take(self, message: ToFactory) -> None:
        """What the control process tells every worker."""

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
