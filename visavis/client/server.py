"""The interface of a server's client, whatever it speaks, and what its implementations share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Protocol

from visavis.client import messages, model
from visavis.client.body_cache import Body, BodyCache
from visavis.errors import BodyCorrupt, ProtocolError

Progress = Callable[[float], None]
"""Called with 0..1 while an avatar is prepared."""


class Link(Protocol):
    """One open conversation with one server."""

    @property
    def opened(self) -> model.Opened:
        """What was agreed."""

    async def send(self, request: messages.Request) -> None:
        """Waits while the server does not read. Raises :class:`VisavisError` when the link is gone."""

    async def receive(self) -> messages.ServerMessage:
        """The next message. Raises :class:`VisavisError` when the link is gone."""

    def cancel(self) -> None:
        """Let go at once."""


class ServerClient(Protocol):
    """One server; :class:`visavis.client.grpc.GrpcServerClient` and :class:`visavis.HttpServerClient` are such.

    Every method but :meth:`close` raises :class:`ServerUnavailable` or one of its kinds where the server cannot
    answer, and :class:`ProtocolError` where it answers nonsense.
    """

    address: str
    """Names the server to placement and to people."""

    async def prepare_source(
        self, source: model.AvatarSource, progress: Progress | None = None
    ) -> model.Avatar:
        """Portrait to prepared avatar. Raises :class:`InvalidRequest` on a portrait that cannot be used."""

    async def fetch_body(self, avatar: model.Avatar, cache: BodyCache) -> Body:
        """The loop's frames, into the cache. Raises :class:`AvatarUnknown` and :class:`BodyCorrupt`."""

    async def export_avatar(self, avatar_id: str) -> list[bytes]:
        """A prepared avatar as an opaque bundle. Raises :class:`AvatarUnknown`."""

    async def import_avatar(self, bundle: list[bytes]) -> model.Avatar:
        """Take such a bundle. Raises :class:`InvalidRequest` where it is of another engine build."""

    def watch_capacity(self) -> AsyncIterator[model.Capacity]:
        """News of the server, from the first contact on until it is lost."""

    async def converse(self, request: messages.Open, deadline_s: float) -> Link:
        """Open a conversation. Raises :class:`AvatarUnknown`, and :class:`ServerStalled` after ``deadline_s``."""

    async def close(self) -> None:
        """Let go of the server."""


_MOST_BUNDLE = 1 << 30


async def keep_body(
    avatar: model.Avatar, cache: BodyCache, frames: AsyncGenerator[bytes | int, None]
) -> Body:
    """The avatar's body, from the cache or out of ``frames`` into it: pixels, or the index of an earlier frame that
    is the same picture. Raises :class:`BodyCorrupt`."""
    body = await asyncio.to_thread(cache.get, avatar)
    if body is not None:
        return body
    with cache.writer(avatar) as writer:
        async with contextlib.aclosing(frames):
            async for frame in frames:
                if isinstance(frame, int):
                    await asyncio.to_thread(writer.repeat, frame)
                else:
                    await asyncio.to_thread(writer.write, frame)
        writer.commit()
    body = await asyncio.to_thread(cache.get, avatar)
    if body is None:
        raise BodyCorrupt(f"the body of avatar {avatar.avatar_id} cannot be kept in {cache.directory}")
    return body


async def gather_bundle(avatar_id: str, chunks: AsyncGenerator[bytes, None]) -> list[bytes]:
    """A bundle's pieces. Raises :class:`ProtocolError` where there is no end to them."""
    bundle: list[bytes] = []
    size = 0
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            bundle.append(chunk)
            size += len(chunk)
            if size > _MOST_BUNDLE:
                raise ProtocolError(f"the bundle of avatar {avatar_id} is larger than 1 GiB")
    return bundle
