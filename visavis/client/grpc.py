"""One avatar server over gRPC: one channel, every call of the contract, errors as sentences."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from fractions import Fraction
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.avatar_pb2_grpc import AvatarServiceStub
from visavis.client import messages, model, wire
from visavis.client.body_cache import Body, BodyCache
from visavis.client.grpc_stream import GrpcLink, open_link
from visavis.client.server import Progress, gather_bundle, keep_body
from visavis.errors import ProtocolError

if TYPE_CHECKING:
    from visavis.avatar.v1.avatar_pb2_grpc import AvatarServiceAsyncStub
    from visavis.client.events import OnEvent
    from visavis.client.pool import ServerPool
    from visavis.client.stream import AvatarStream

M = TypeVar("M")

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 << 20),  # a whole 1080p picture in RGB24 is 6.2 MB
    ("grpc.max_send_message_length", -1),  # the server names its own limit for images
    ("grpc.use_local_subchannel_pool", 1),
]


class AvatarClient:
    """One server at ``address`` (``host:port``), over one channel that reconnects by itself.

    Every method raises :class:`ServerUnavailable` (or its kinds :class:`ServerFull`, :class:`ServerStalled`),
    :class:`AvatarUnknown` or :class:`InvalidRequest` with one clear sentence. Belongs to one event loop.
    """

    def __init__(self, address: str, *, timeout: float = 10.0) -> None:
        self.address = address
        self._timeout = timeout
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub: AvatarServiceAsyncStub = AvatarServiceStub(self._channel)
        self._pool: ServerPool | None = None

    async def __aenter__(self) -> AvatarClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel and every call on it."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.close()
        await self._channel.close(None)

    async def capabilities(self) -> model.Capabilities:
        """What the server is and can do."""
        try:
            answer = await self._stub.GetCapabilities(pb.GetCapabilitiesRequest(), timeout=self._timeout)
        except grpc.aio.AioRpcError as e:
            raise wire.error_from(e, self.address) from None
        return wire.capabilities_from(answer)

    async def prepare(
        self,
        image: bytes,
        width: int = 512,
        height: int = 512,
        fps: Fraction | int = 25,
        *,
        fit: model.FitMode = "crop",
        settings: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> model.Avatar:
        """Portrait (bytes of an image file) to prepared avatar; answers at once where it is prepared."""
        source = model.AvatarSource(image, width, height, Fraction(fps), fit, dict(settings or {}))
        return await self.prepare_source(source, progress)

    async def prepare_source(
        self, source: model.AvatarSource, progress: Progress | None = None
    ) -> model.Avatar:
        """The same from a kept source. Takes as long as the engine needs."""
        avatar: model.Avatar | None = None
        try:
            async for step in self._stub.PrepareAvatar(wire.prepare_to(source)):
                if progress is not None:
                    progress(step.progress)
                if step.HasField("avatar"):
                    avatar = wire.avatar_from(step.avatar)
        except grpc.aio.AioRpcError as e:
            raise wire.error_from(e, self.address) from None
        if avatar is None:
            raise ProtocolError(f"the avatar server at {self.address} prepared an avatar without naming it")
        return avatar

    async def fetch_body(self, avatar: model.Avatar, cache: BodyCache) -> Body:
        """The avatar's body, from the cache or from the server into it. Raises also :class:`BodyCorrupt`."""
        request = pb.FetchBodyRequest(avatar_id=avatar.avatar_id)
        frames = _each(lambda: self._stub.FetchBody(request), lambda frame: frame.pixels, self.address)
        return await keep_body(avatar, cache, frames)

    async def export_avatar(self, avatar_id: str) -> list[bytes]:
        """A prepared avatar as an opaque bundle, for :meth:`import_avatar` on a second server."""
        request = pb.ExportAvatarRequest(avatar_id=avatar_id)
        chunks = _each(lambda: self._stub.ExportAvatar(request), lambda chunk: chunk.data, self.address)
        return await gather_bundle(avatar_id, chunks)

    async def import_avatar(self, bundle: list[bytes]) -> model.Avatar:
        """Take what :meth:`export_avatar` gave on a server of the same engine build."""

        async def chunks() -> AsyncIterator[pb.BundleChunk]:
            for data in bundle:
                yield pb.BundleChunk(data=data)

        try:
            answer = await self._stub.ImportAvatar(chunks())
        except grpc.aio.AioRpcError as e:
            raise wire.error_from(e, self.address) from None
        return wire.avatar_from(answer.avatar)

    async def watch_capacity(self) -> AsyncIterator[model.Capacity]:
        """How busy the server is, whenever that changes; waits for a server that cannot be reached."""
        call = self._stub.WatchCapacity(pb.WatchCapacityRequest(), wait_for_ready=True)
        try:
            async for capacity in call:
                yield wire.capacity_from(capacity)
        except grpc.aio.AioRpcError as e:
            raise wire.error_from(e, self.address) from None
        finally:
            call.cancel()

    async def open(
        self,
        avatar: model.Avatar,
        *,
        source: model.AvatarSource | None = None,
        session_id: str = "",
        body_sha256: bytes = b"",
        on_event: OnEvent | None = None,
    ) -> AvatarStream:
        """One conversation on this server alone; see :meth:`visavis.ServerPool.open` for several."""
        from visavis.client.pool import ServerPool

        if self._pool is None:
            self._pool = ServerPool(self.address, connect=lambda _: self)
            await self._pool.start()
        return self._pool.open(
            avatar, source=source, session_id=session_id, body_sha256=body_sha256, on_event=on_event
        )

    async def converse(self, request: messages.Open, deadline_s: float) -> GrpcLink:
        """Open a conversation: one avatar that speaks. :class:`AvatarStream` is the comfortable way."""
        call = self._stub.Converse()  # type: ignore[call-arg]
        return await open_link(call, self.address, request, deadline_s)


async def _each(
    begin: Callable[[], grpc.aio.UnaryStreamCall[Any, M]], data: Callable[[M], bytes], address: str
) -> AsyncGenerator[bytes, None]:
    """The bytes of each message of a call, which begins when the first one is asked for."""
    call = begin()
    try:
        async for message in call:
            yield data(message)
    except grpc.aio.AioRpcError as e:
        raise wire.error_from(e, address) from None
    finally:
        call.cancel()
