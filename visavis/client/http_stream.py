"""One conversation over the HTTP face: a WebSocket of ``/v1/converse``."""

from __future__ import annotations

import asyncio
import json
import ssl

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI

from visavis import errors
from visavis.client import http_wire, messages, model


class HttpLink:
    """A ``/v1/converse`` socket whose ``opened`` has come."""

    def __init__(self, socket: ClientConnection, address: str, opened: model.Opened) -> None:
        self._socket = socket
        self._address = address
        self.opened = opened

    async def send(self, request: messages.Request) -> None:
        try:
            await self._socket.send(http_wire.request_to(request))
        except ConnectionClosed as e:
            raise _closed(e, self._address) from None

    async def receive(self) -> messages.ServerMessage:
        while True:
            message = await _receive(self._socket, self.opened, self._address)
            if isinstance(message, model.Opened):
                raise errors.ProtocolError(
                    f"the avatar server at {self._address} opened a conversation twice"
                )
            if message is not None:
                return message

    def cancel(self) -> None:
        self._socket.transport.abort()


async def open_link(
    url: str,
    address: str,
    request: messages.Open,
    most_bytes: int,
    deadline_s: float,
    *,
    authorization: str = "",
    tls: ssl.SSLContext | None = None,
) -> HttpLink:
    """A conversation, opened; no message of the server may be larger than ``most_bytes``.

    Raises :class:`ServerStalled` after ``deadline_s``, :class:`ServerUnavailable`, and what the server answers.
    """
    try:
        async with asyncio.timeout(deadline_s):
            socket = await connect(
                url,
                compression=None,  # deflating pixels costs tens of milliseconds a frame
                max_size=most_bytes,
                open_timeout=None,
                close_timeout=1.0,
                ping_interval=10.0,
                ping_timeout=10.0,
                additional_headers={"Authorization": authorization} if authorization else None,
                ssl=tls,
            )
            try:
                await socket.send(http_wire.request_to(request))
                opened = await _receive(socket, None, address)
                if not isinstance(opened, model.Opened):
                    raise errors.ProtocolError(
                        f"the avatar server at {address} did not answer open with opened"
                    )
            except BaseException:
                socket.transport.abort()
                raise
    except TimeoutError:
        raise errors.ServerStalled(
            f"the avatar server at {address} did not open a conversation within {deadline_s:g} s"
        ) from None
    except ConnectionClosed as e:
        raise _closed(e, address) from None
    except InvalidStatus as e:
        raise _refused(e, address) from None
    except (OSError, InvalidHandshake, InvalidURI, EOFError) as e:
        raise unreachable(e, address) from None
    return HttpLink(socket, address, opened)


def _refused(error: InvalidStatus, address: str) -> errors.VisavisError:
    """What the problem details of a refused handshake say."""
    try:
        told = json.loads(error.response.body or b"")
        return http_wire.error_of(str(told["kind"]), str(told["detail"]), address)
    except (ValueError, KeyError, TypeError):
        return unreachable(error, address)


def unreachable(error: Exception, address: str) -> errors.ServerUnavailable:
    """A server that no connection can be made to."""
    about = str(error) or type(error).__name__
    return errors.ServerUnavailable(f"the avatar server at {address} cannot be used now ({about})")


async def _receive(
    socket: ClientConnection, opened: model.Opened | None, address: str
) -> messages.ServerMessage | model.Opened | None:
    try:
        return http_wire.response_from(await socket.recv(), opened, address)
    except ConnectionClosed as e:
        raise _closed(e, address) from None


def _closed(error: ConnectionClosed, address: str) -> errors.VisavisError:
    """Why a socket has ended, as an error to raise."""
    if error.rcvd is not None and error.rcvd.code in http_wire.KIND_OF_CODE:
        return http_wire.error_of(http_wire.KIND_OF_CODE[error.rcvd.code], error.rcvd.reason, address)
    if error.sent is not None and error.sent.code == 1009:
        return errors.ProtocolError(f"the avatar server at {address} sent a message larger than the picture")
    return errors.ServerUnavailable(f"the avatar server at {address} ended the conversation")
