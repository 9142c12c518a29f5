"""One avatar server over gRPC: one channel, every call of the contract, errors as sentences."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

import grpc

from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.avatar_pb2_grpc import AvatarServiceStub
from visavis.client import messages, model, wire
from visavis.client.body_cache import Body, BodyCache
from visavis.client.credentials import ServerCredentials, credentials_of
from visavis.client.grpc_stream import GrpcLink, ended, open_link, told
from visavis.client.server import Progress, gather_bundle, keep_body
from visavis.errors import ProtocolError

if TYPE_CHECKING:
    from visavis.avatar.v1.avatar_pb2_grpc import AvatarServiceAsyncStub

C = TypeVar("C")
M = TypeVar("M")
_Prepare: TypeAlias = (
    "grpc.aio.StreamStreamCall[pb.PrepareAvatarRequest, pb.PrepareAvatarProgress]"
    " | grpc.aio.UnaryStreamCall[pb.PrepareAvatarRequest, pb.PrepareAvatarProgress]"
)

_OPTIONS: list[tuple[str, Any]] = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_receive_message_length", 16 << 20),  # a whole 1080p picture in RGB24 is 6.2 MB
    ("grpc.max_send_message_length", -1),  # the server has its own limit
    ("grpc.use_local_subchannel_pool", 1),
]


class GrpcServerClient:
    """One server at ``address`` (``host:port``) over gRPC, as :class:`visavis.client.server.ServerClient` asks.

    One channel, which reconnects by itself. ``token`` or ``credentials``: see :class:`ServerCredentials`.

    Every method raises :class:`ServerUnavailable` (or its kinds :class:`ServerFull`, :class:`ServerStalled`),
    :class:`AvatarUnknown` or :class:`InvalidRequest` with one clear sentence. Belongs to one event loop.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout: float = 10.0,
        token: str | None = None,
        credentials: ServerCredentials | None = None,
    ) -> None:
        self.address = address
        self._timeout = timeout
        self._credentials = credentials_of(token, credentials)
        tls, name = self._credentials.for_grpc(), self._credentials.tls_name
        options = [*_OPTIONS, ("grpc.ssl_target_name_override", name)] if name else _OPTIONS
        self._channel = (
            grpc.aio.insecure_channel(address, options=options)
            if tls is None
            else grpc.aio.secure_channel(address, tls, options=options)
        )
        self._stub: AvatarServiceAsyncStub = AvatarServiceStub(self._channel)
        self._calls = weakref.WeakSet[Any]()

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        """Who we are, for one call."""
        authorization = self._credentials.authorization(self.address)
        return (("authorization", authorization),) if authorization else ()

    async def close(self) -> None:
        """Close the channel and every call on it."""
        for call in list(self._calls):  # a channel of grpcio 1.76 leaves some of them to wait
            call.cancel()
        await self._channel.close(None)

    def _begun(self, call: C) -> C:
        self._calls.add(call)
        return call

    async def capabilities(self) -> model.Capabilities:
        """What the server is and can do."""
        with told(self.address):
            answer = await self._stub.GetCapabilities(
                pb.GetCapabilitiesRequest(), timeout=self._timeout, metadata=self._metadata()
            )
        return wire.capabilities_from(answer)

    async def prepare_source(
        self, source: model.AvatarSource, progress: Progress | None = None
    ) -> model.Avatar:
        """Portrait to prepared avatar, for as long as the engine needs; at once where it is prepared."""
        upload = self._begun(self._stub.UploadAvatar(metadata=self._metadata()))  # type: ignore[call-arg]
        try:
            with told(self.address):
                if not await self._has_room(upload):
                    whole = self._stub.PrepareAvatar(wire.prepare_to(source), metadata=self._metadata())
                    return await self._prepared(self._begun(whole), progress)
                for request in wire.pieces_of(source):
                    await upload.write(request)
                await upload.done_writing()
                return await self._prepared(upload, progress)
        except asyncio.InvalidStateError:
            raise await ended(upload, self.address) from None
        finally:
            upload.cancel()

    async def _has_room(self, upload: _Prepare) -> bool:
        """Wait until the server has room for a file; ``False`` where it is of before and takes only whole ones."""
        try:
            if await upload.read() is grpc.aio.EOF:  # type: ignore[attr-defined]
                raise await ended(upload, self.address)
        except grpc.aio.AioRpcError as e:
            if e.code() is not grpc.StatusCode.UNIMPLEMENTED:
                raise
            return False
        return True

    async def _prepared(self, call: _Prepare, progress: Progress | None) -> model.Avatar:
        """The avatar at the end of a preparation."""
        avatar: model.Avatar | None = None
        try:
            while isinstance(step := await call.read(), pb.PrepareAvatarProgress):
                if progress is not None:
                    progress(step.progress)
                if step.HasField("avatar"):
                    avatar = wire.avatar_from(step.avatar)
        finally:
            call.cancel()
        if avatar is None:
            raise ProtocolError(f"the avatar server at {self.address} prepared an avatar without naming it")
        return avatar

    async def fetch_body(self, avatar: model.Avatar, cache: BodyCache) -> Body:
        """The avatar's body, from the cache or from the server into it. Raises also :class:`BodyCorrupt`."""
        request = pb.FetchBodyRequest(avatar_id=avatar.avatar_id, pictures_once=True)
        frames = _each(
            lambda: self._begun(self._stub.FetchBody(request, metadata=self._metadata())),
            lambda frame: frame.same_as if frame.HasField("same_as") else frame.pixels,
            self.address,
        )
        return await keep_body(avatar, cache, frames)

    async def export_avatar(self, avatar_id: str) -> list[bytes]:
        """A prepared avatar as an opaque bundle, for :meth:`import_avatar` on a second server."""
        request = pb.ExportAvatarRequest(avatar_id=avatar_id)
        chunks = _each(
            lambda: self._begun(self._stub.ExportAvatar(request, metadata=self._metadata())),
            lambda chunk: chunk.data,
            self.address,
        )
        return await gather_bundle(avatar_id, chunks)

    async def import_avatar(self, bundle: list[bytes]) -> model.Avatar:
        """Take what :meth:`export_avatar` gave on a server of the same engine build."""

        async def chunks() -> AsyncIterator[pb.BundleChunk]:
            for data in bundle:
                yield pb.BundleChunk(data=data)

        with told(self.address):
            answer = await self._begun(self._stub.ImportAvatar(chunks(), metadata=self._metadata()))
        return wire.avatar_from(answer.avatar)

    async def watch_capacity(self) -> AsyncIterator[model.Capacity]:
        """How busy the server is, whenever that changes; waits for a server that cannot be reached."""
        request = pb.WatchCapacityRequest()
        call = self._begun(self._stub.WatchCapacity(request, wait_for_ready=True, metadata=self._metadata()))
        try:
            with told(self.address):
                async for capacity in call:
                    yield wire.capacity_from(capacity)
        finally:
            call.cancel()

    async def converse(self, request: messages.Open, deadline_s: float) -> GrpcLink:
        """Open a conversation: one avatar that speaks. :class:`AvatarStream` is the comfortable way."""
        call = self._begun(self._stub.Converse(metadata=self._metadata()))  # type: ignore[call-arg]
        return await open_link(call, self.address, request, deadline_s)


async def _each(
    begin: Callable[[], grpc.aio.UnaryStreamCall[Any, M]], data: Callable[[M], C], address: str
) -> AsyncGenerator[C, None]:
    """What each message of a call has, which begins when the first one is asked for."""
    call = begin()
    try:
        with told(address):
            async for message in call:
                yield data(message)
    finally:
        call.cancel()
