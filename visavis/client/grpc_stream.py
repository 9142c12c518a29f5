"""One conversation over gRPC: a ``Converse`` call."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TypeAlias

import grpc

from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client import messages, model, wire
from visavis.errors import ProtocolError, ServerStalled, ServerUnavailable

_Call: TypeAlias = "grpc.aio.StreamStreamCall[pb.ConverseRequest, pb.ConverseResponse]"


class GrpcLink:
    """A ``Converse`` call whose ``Opened`` has come."""

    def __init__(
        self,
        call: _Call,
        address: str,
        opened: model.Opened,
    ) -> None:
        self._call = call
        self._address = address
        self.opened = opened

    async def send(self, request: messages.Request) -> None:
        try:
            with told(self._address):
                await self._call.write(wire.request_to(request))
        except asyncio.InvalidStateError:
            raise ServerUnavailable(f"the avatar server at {self._address} ended the conversation") from None

    async def receive(self) -> messages.ServerMessage:
        while True:
            with told(self._address):
                response = await self._call.read()
                if not isinstance(response, pb.ConverseResponse):  # EOF
                    raise await ended(self._call, self._address)
            message = wire.response_from(response, self.opened)
            if message is not None:
                return message

    def cancel(self) -> None:
        """End the call, also one that a failed write has ended for grpc.aio alone.

        Its ``cancel`` passes over such a call, while the core goes on to wait until all messages that came
        before are read, and keeps the call with them.
        """
        if not self._call.cancel():
            getattr(self._call, "_cython_call").cancel("left")  # noqa: B009 - nothing public reaches it


@contextlib.contextmanager
def told(address: str) -> Iterator[None]:
    """Why a call failed, as an error of ours.

    grpc.aio tells a cancelled task how its call ended, where that ends at the same time, and cancels the calls of a
    channel that is closed, which looks like a cancelled task but is none. So who is cancelled meanwhile gets
    ``CancelledError``, whatever the call says, and who was never cancelled gets :class:`ServerUnavailable`. Who was
    cancelled before, and cleans up, gets what the call says.
    """
    before = _cancellations()
    try:
        yield
    except asyncio.CancelledError:
        if not _cancellations():
            raise ServerUnavailable(f"the channel to the avatar server at {address} was closed") from None
        raise
    except Exception as e:
        if _cancellations() > before:
            raise asyncio.CancelledError from None
        if isinstance(e, grpc.aio.AioRpcError):
            raise wire.error_from(e, address) from None
        raise
    if _cancellations() > before:
        raise asyncio.CancelledError


def _cancellations() -> int:
    """That were asked of this task, and not taken back."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


async def open_link(call: _Call, address: str, request: messages.Open, deadline_s: float) -> GrpcLink:
    """A conversation, opened.

    Raises :class:`ServerStalled` after ``deadline_s``, :class:`ServerUnavailable`, and what the server answers.
    """
    try:
        with told(address):
            async with asyncio.timeout(deadline_s):
                await call.write(wire.request_to(request))
                first = await call.read()
                if not isinstance(first, pb.ConverseResponse):
                    raise await ended(call, address)
        if first.WhichOneof("message") != "opened":
            raise ProtocolError(f"the avatar server at {address} did not answer Open with Opened")
        return GrpcLink(call, address, wire.opened_from(first.opened))
    except TimeoutError:
        call.cancel()
        raise ServerStalled(
            f"the avatar server at {address} did not open a conversation within {deadline_s:g} s"
        ) from None
    except BaseException:
        call.cancel()
        raise


async def ended(call: grpc.aio.Call, address: str) -> Exception:
    """Why a call has ended, as an error to raise."""
    code = await call.code()
    if code is grpc.StatusCode.OK:
        return ServerUnavailable(f"the avatar server at {address} ended the conversation")
    status = grpc.aio.AioRpcError(
        code, await call.initial_metadata(), await call.trailing_metadata(), await call.details(), None
    )
    return wire.error_from(status, address)
