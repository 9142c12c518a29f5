"""The gRPC face of the server: every RPC of the contract, health and reflection."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection

from inference_server.avatars.preparation import PrepareRequest
from inference_server.core import Core
from inference_server.errors import RequestError, invalid
from inference_server.frontends import convert, describe
from inference_server.frontends.access import AccessInterceptor
from inference_server.frontends.health import SERVICE, Health
from inference_server.frontends.receiving import Places, Receiving, refuse
from inference_server.settings import MIB, Settings
from inference_server.streams.stream import Stream
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.contract import protobuf_codec as codec
from visavis.frames import first_shown
from visavis.service.listening import Tls
from visavis.service.security import Guard

WATCH_S = 0.1
SLACK_BYTES = 64 << 10  # what a message of so much audio has besides
FETCHED_AT_ONCE = 8  # bodies, of each client
FRAME_S = 30.0  # until a client has taken a frame of a body
FLUSH_S = 2.0  # what a stream that ends may take to hand over what is in its outbox

_EOF = grpc.aio.EOF  # type: ignore[attr-defined]
M = TypeVar("M", bound=Message)
Context = Any  # grpc.aio.ServicerContext; its stubs lack what is used here


class Malformed:
    """Bytes that are no such message, handed to the handler so that it can say so."""

    def __init__(self, name: str) -> None:
        self.sentence = f"{name}: the bytes are not a valid message (cut off, or of another type)."


def _parser(kind: type[M]) -> Callable[[bytes], M | Malformed]:
    def parse(data: bytes) -> M | Malformed:
        try:
            return kind.FromString(data)
        except DecodeError:
            return Malformed(kind.DESCRIPTOR.name)

    return parse


def _checked(request: M | Malformed) -> M:
    if isinstance(request, Malformed):
        raise invalid(request.sentence)
    return request


class GrpcFrontend:
    """Serves one :class:`Core`."""

    def __init__(self, core: Core, guard: Guard) -> None:
        self._core = core
        self._log = core.log
        self._receiving = Receiving()
        self._fetching = Places(FETCHED_AT_ONCE)
        self._access = AccessInterceptor(guard, self._receiving)
        self._server = grpc.aio.server(interceptors=[self._access], options=server_options(core.settings))
        self._health = Health(core.log)
        self.port = 0

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the bound port. Raises ``OSError`` where that is not possible."""
        self._server.add_generic_rpc_handlers((self._handlers(),))
        await self._health.start(self._server, self._core.ready)
        reflection.enable_server_reflection(
            (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server
        )
        self._core.on_health.append(self._health.tell)
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            self.port = (
                self._server.add_secure_port(address, _tls(self._core.settings.tls))
                if self._core.settings.tls
                else self._server.add_insecure_port(address)
            )
        except RuntimeError:
            raise OSError(f"gRPC cannot listen on {address}") from None
        await self._server.start()
        return self.port

    async def close(self, grace_s: float = 1.0) -> None:
        """Stop listening and end what is left."""
        await self._health.close()
        await self._server.stop(grace_s)

    def _handlers(self) -> Any:
        def handler(name: str, kind: str, method: Any, request: type[Message]) -> Any:
            make = getattr(grpc, f"{kind}_rpc_method_handler")
            return make(
                self._answering(name, method),
                request_deserializer=_parser(request),
                response_serializer=_serialize,
            )

        methods = {
            "GetCapabilities": ("unary_unary", self.get_capabilities, pb.GetCapabilitiesRequest),
            "WatchCapacity": ("unary_stream", self.watch_capacity, pb.WatchCapacityRequest),
            "PrepareAvatar": ("stream_stream", self.prepare_avatar, pb.PrepareAvatarRequest),
            "UploadAvatar": ("stream_stream", self.upload_avatar, pb.PrepareAvatarRequest),
            "FetchBody": ("unary_stream", self.fetch_body, pb.FetchBodyRequest),
            "ExportAvatar": ("unary_stream", self.export_avatar, pb.ExportAvatarRequest),
            "ImportAvatar": ("stream_unary", self.import_avatar, pb.BundleChunk),
            "Converse": ("stream_stream", self.converse, pb.ConverseRequest),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE, {name: handler(name, *about) for name, about in methods.items()}
        )

    # --- the RPCs -------------------------------------------------------------------------------------

    async def get_capabilities(self, request: pb.GetCapabilitiesRequest | Malformed, context: Context) -> Any:
        """What this server is and can do."""
        _checked(request)
        return codec.encode(describe.capabilities(self._core))

    async def watch_capacity(self, request: pb.WatchCapacityRequest | Malformed, context: Context) -> None:
        """Placement data at once, then on change."""
        _checked(request)
        told = None
        while True:
            now = self._core.capacity()
            if now != told:
                told = now
                await context.write(codec.encode(now))
            await asyncio.sleep(WATCH_S)

    async def prepare_avatar(
        self, requests: AsyncIterator[pb.PrepareAvatarRequest | Malformed], context: Context
    ) -> None:
        """Progress, then the avatar.

        The one request is read when there is a place for it: until then it waits with the client, and one that is
        refused is not read at all.
        """
        self._core.check_open_to_new()
        client = self._access.client(context)
        async with self._core.uploads.place(client, whole=True):
            sent = await context.read()  # an iterator would keep it until the call's trace is collected
            if sent is _EOF:
                raise invalid("The call ended before its request: send one.")
            request = await convert.prepare_request(_checked(sent), client, self._core.uploads)
            del sent
        await self._prepare(request, context)

    async def upload_avatar(
        self, requests: AsyncIterator[pb.PrepareAvatarRequest | Malformed], context: Context
    ) -> None:
        """The same, in pieces.

        One that is refused is read to its end all the same: grpc.aio tells no reason to a client that still writes.
        """
        self._core.check_open_to_new()
        client, uploads = self._access.client(context), self._core.uploads
        async with uploads.place(client):
            await context.write(pb.PrepareAvatarProgress())  # there is room: send
            try:
                if (sent := await context.read()) is _EOF:
                    raise invalid("The stream ended before its request: send one.")
                request = await convert.prepare_request(_checked(sent), client, uploads)
                with request.let_go():
                    while (sent := await context.read()) is not _EOF:
                        await uploads.append(
                            request.file, convert.piece(_checked(sent), request, self._core.settings)
                        )
            except RequestError:
                while sent is not _EOF:
                    sent = await context.read()
                raise
        await self._prepare(request, context)

    async def _prepare(self, request: PrepareRequest, context: Context) -> None:
        steps = self._core.avatars.prepare(request)
        async with contextlib.aclosing(steps):
            async for step in steps:
                if isinstance(step, float):
                    await context.write(pb.PrepareAvatarProgress(progress=step))
                else:
                    avatar = codec.encode(describe.avatar(step))
                    await context.write(pb.PrepareAvatarProgress(progress=1.0, avatar=avatar))

    async def fetch_body(self, request: pb.FetchBodyRequest | Malformed, context: Context) -> None:
        """The loop's frames."""
        asked = _checked(request)
        avatar = await self._core.avatars.get(asked.avatar_id)
        async with self._fetching.of(self._access.client(context)):
            for index, first in enumerate(first_shown(avatar.body.frames)):
                frame = pb.BodyFrame(loop_index=index)
                if asked.pictures_once and first < index:
                    frame.same_as = first
                else:
                    frame.pixels = avatar.body.frame(index).tobytes()
                if index == 0:
                    frame.avatar.CopyFrom(codec.encode(describe.avatar(avatar)))
                await _taken(context, frame)

    async def export_avatar(self, request: pb.ExportAvatarRequest | Malformed, context: Context) -> None:
        """A bundle."""
        async for chunk in self._core.avatars.export_avatar(_checked(request).avatar_id):
            await context.write(pb.BundleChunk(data=chunk))

    async def import_avatar(
        self, requests: AsyncIterator[pb.BundleChunk | Malformed], context: Context
    ) -> Any:
        """A bundle back to an avatar."""

        async def chunks() -> AsyncIterator[bytes]:
            async for request in requests:
                yield _checked(request).data

        avatar = await self._core.avatars.import_avatar(chunks())
        return pb.ImportAvatarResponse(avatar=codec.encode(describe.avatar(avatar)))

    async def converse(
        self, requests: AsyncIterator[pb.ConverseRequest | Malformed], context: Context
    ) -> None:
        """One avatar in one conversation."""
        client = self._access.client(context)
        first = convert.first(_checked(await self._receiving.first(context, client, "Open")))
        stream = await self._core.open(first, client)
        tasks: list[asyncio.Task[Any]] = []
        try:
            await context.write(codec.encode_response(describe.opened(self._core, stream)))
            writer = asyncio.create_task(self._write(stream, context))
            ended = asyncio.create_task(stream.ended.wait())
            tasks = [writer, ended, asyncio.create_task(self._read(context, stream))]
            await asyncio.wait([writer, ended], return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait([writer], timeout=FLUSH_S)  # a client that reads nothing stops nobody
            if writer.done():
                writer.result()
        finally:
            for task in tasks:
                task.cancel()
            stream.close()
            await asyncio.gather(*tasks, return_exceptions=True)
        if stream.error is not None:
            raise stream.error

    async def _read(self, context: Context, stream: Stream) -> None:
        """Always reading, whatever is being sent."""
        try:
            while (request := await context.read()) is not _EOF:
                convert.apply(stream, _checked(request))
            stream.half_close()
        except RequestError as error:
            stream.log.warning("request_refused", reason=error.sentence)
            stream.end(error)
        except Exception:
            stream.log.exception("internal_error")
            stream.end(RequestError("internal", "The server failed at this request: see its log."))

    @staticmethod
    async def _write(stream: Stream, context: Context) -> None:
        while (said := await stream.outbox.get()) is not None:
            await context.write(convert.response(stream, said))

    # --------------------------------------------------------------------------------------------------

    def _answering(self, name: str, method: Callable[[Any, Context], Awaitable[Any]]) -> Any:
        """A method whose errors are status codes with one sentence."""

        async def answer(request: Any, context: Context) -> Any:
            try:
                return await method(request, context)
            except RequestError as error:
                self._log.info("request_failed", rpc=name, kind=error.kind, reason=error.sentence)
                await refuse(context, error.with_traceback(None))  # it has the message that was refused
            except (asyncio.CancelledError, grpc.aio.AbortError, grpc.aio.UsageError):
                raise
            except Exception as error:
                if isinstance(error, grpc.aio.InternalError):  # what it writes cannot be sent any more
                    self._log.info("client_gone", rpc=name)
                    raise asyncio.CancelledError from None
                self._log.exception("internal_error", rpc=name)
                await refuse(
                    context, RequestError("internal", "The server failed at this request: see its log.")
                )

        return answer


async def _taken(context: Context, message: Message) -> None:
    """Send it to a client that reads. Raises :class:`RequestError` where it does not."""
    try:
        async with asyncio.timeout(FRAME_S):
            await context.write(message)
    except TimeoutError:
        raise RequestError(
            "deadline_exceeded", f"Nothing was read for {FRAME_S:g} s: read what you ask for, or ask again."
        ) from None


def _tls(files: Tls) -> grpc.ServerCredentials:
    pair = (Path(files.key).read_bytes(), Path(files.certificate).read_bytes())
    ca = Path(files.client_ca).read_bytes() if files.client_ca else None
    return grpc.ssl_server_credentials([pair], ca, require_client_auth=ca is not None)


def _serialize(message: Message) -> bytes:
    return message.SerializeToString()


def server_options(settings: Settings) -> list[tuple[str, int]]:
    """Message sizes, calls of a connection, keepalive, and a port of our own."""
    return [
        ("grpc.max_send_message_length", settings.max_width * settings.max_height * 3 + MIB),
        (
            "grpc.max_receive_message_length",
            max(settings.message_bytes, settings.audio_bytes + SLACK_BYTES),
        ),
        ("grpc.max_concurrent_streams", 2 * settings.max_sessions + 256),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.so_reuseport", 0),
        # what nobody reads yet is not fetched: else each waiting upload has megabytes here
        ("grpc.http2.bdp_probe", 0),
    ]
