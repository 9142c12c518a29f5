"""What placement, streams and providers need of a server, whatever it speaks."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Protocol

from visavis import messages, model
from visavis.body import Body, BodyCache

Progress = Callable[[float], None]
"""Called with 0..1 while an avatar is prepared."""


class Link(Protocol):
    """One open conversation with one server."""

    @property
    def opened(self) -> model.Opened:
        """What was agreed."""
        ...

    async def send(self, request: messages.Request) -> None:
        """Waits while the server does not read. Raises :class:`VisavisError` when the link is gone."""
        ...

    async def receive(self) -> messages.ServerMessage:
        """The next message. Raises :class:`VisavisError` when the link is gone."""
        ...

    def cancel(self) -> None:
        """Let go at once."""
        ...


class ServerClient(Protocol):
    """One server; :class:`visavis.AvatarClient` and :class:`visavis.HttpServerClient` are such."""

    address: str

    async def prepare_source(
        self, source: model.AvatarSource, progress: Progress | None = None
    ) -> model.Avatar: ...

    async def fetch_body(self, avatar: model.Avatar, cache: BodyCache) -> Body: ...

    async def export_avatar(self, avatar_id: str) -> list[bytes]: ...

    async def import_avatar(self, bundle: list[bytes]) -> model.Avatar: ...

    def watch_capacity(self) -> AsyncIterator[model.Capacity]: ...

    async def converse(self, request: messages.Open, deadline_s: float) -> Link: ...

    async def close(self) -> None: ...
