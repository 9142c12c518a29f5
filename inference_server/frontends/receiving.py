"""First messages of gRPC calls: of each client few at once are received, the others wait where they are.

grpc.aio fetches a whole message when a handler asks for it, and none before. So what many calls can put into memory
is bounded by how many are asked at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc

from inference_server.errors import ErrorKind, RequestError, invalid

AT_ONCE = 16
RECEIVE_S = 10.0
UNARY_BYTES = 4096
"""Of the one request of a call that asks for something by name."""

_STATUS: dict[ErrorKind, grpc.StatusCode] = {
    "invalid_argument": grpc.StatusCode.INVALID_ARGUMENT,
    "not_found": grpc.StatusCode.NOT_FOUND,
    "resource_exhausted": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "failed_precondition": grpc.StatusCode.FAILED_PRECONDITION,
    "unavailable": grpc.StatusCode.UNAVAILABLE,
    "deadline_exceeded": grpc.StatusCode.DEADLINE_EXCEEDED,
    "unimplemented": grpc.StatusCode.UNIMPLEMENTED,
    "internal": grpc.StatusCode.INTERNAL,
}


async def refuse(context: Any, error: RequestError) -> None:
    """End a call with a status and one sentence; raises."""
    await context.abort(_STATUS[error.kind], error.sentence)


class Places:
    """So many at once for each client; whoever waits keeps only its own calls waiting."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._places: weakref.WeakValueDictionary[str, asyncio.Semaphore] = weakref.WeakValueDictionary()

    @contextlib.asynccontextmanager
    async def of(self, client: str) -> AsyncIterator[None]:
        """One place of this client."""
        places = self._places.get(client) or asyncio.Semaphore(self._most)
        self._places[client] = places  # for as long as somebody has it
        async with places:
            yield


class Receiving:
    """First messages, and whole calls of tools."""

    def __init__(self) -> None:
        self._first = Places(AT_ONCE)
        self._tools = Places(AT_ONCE)

    async def first(self, context: Any, client: str, what: str = "request") -> Any:
        """The first message of a call. Raises :class:`RequestError` where none comes soon."""
        try:
            async with self._first.of(client), asyncio.timeout(RECEIVE_S):
                sent = await context.read()
        except TimeoutError:
            raise RequestError(
                "deadline_exceeded", f"No {what} came within {RECEIVE_S:g} s: send it first, at once."
            ) from None
        if sent is grpc.aio.EOF:  # type: ignore[attr-defined]
            raise invalid(f"The stream ended before {what}: send {what} first.")
        return sent

    def unary(self, handler: Any, client_of: Callable[[Any], str]) -> Any:
        """A handler of one request as one that asks for it when there is a place, and for no long one."""
        kind = "unary_stream" if handler.response_streaming else "unary_unary"

        async def answer(_: Any, context: Any) -> Any:
            try:
                request = await self.first(context, client_of(context))
                size = getattr(request, "ByteSize", int)()
                if size > UNARY_BYTES:
                    raise invalid(f"The request has {size} bytes; at most {UNARY_BYTES} are taken here.")
            except RequestError as error:
                await refuse(context, error)
            return await getattr(handler, kind)(request, context)

        return _handler(f"stream_{kind.rpartition('_')[2]}", handler, answer)

    def tool(self, handler: Any, client_of: Callable[[Any], str]) -> Any:
        """A handler of streams of which each client may have few."""

        async def answer(requests: Any, context: Any) -> None:
            async with self._tools.of(client_of(context)):
                async for each in handler.stream_stream(requests, context):
                    await context.write(each)

        return _handler("stream_stream", handler, answer)


def _handler(kind: str, of: Any, answer: Any) -> Any:
    make = getattr(grpc, f"{kind}_rpc_method_handler")
    return make(answer, of.request_deserializer, of.response_serializer)
