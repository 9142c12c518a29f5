"""The wire protocol of RoomKit's own ``WebSocketAvatarProvider``: routes, and which portrait a socket gets.

It has no session id. Every socket is a session of its own; its portrait is that of the latest ``/start`` by the
same client: by its address and, where it has one, its user name in the URL.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from pydantic import ValidationError
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocketDisconnect

from inference_server.avatars.preparation import PrepareRequest
from inference_server.avatars.store import StoredAvatar
from inference_server.core import Core
from inference_server.errors import RequestError, invalid
from inference_server.frontends.http import schemas as http_schemas
from inference_server.frontends.http import socket as http_socket
from inference_server.frontends.http.problems import limited
from inference_server.frontends.http.roomkit_talk import HEADER, StockTalk, picture
from visavis.audio import Resampler
from visavis.avatar.v1.contract import Open
from visavis.service.routes import needs

MOST_BYTES = 1 << 20
"""One message that the client takes: the default of its WebSocket library."""
MOST_CLIENTS = 1024
_URL_SAFE = str.maketrans("-_", "+/")


@dataclass(frozen=True)
class _Start:
    """What the latest ``/start`` of a client came to."""

    avatar_id: str
    sample_rate: int
    refusal: RequestError | None = None


class _Starts:
    """The latest ``/start`` of each client, at most ``MOST_CLIENTS`` of them."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, _Start] = OrderedDict()

    @staticmethod
    def client(connection: HTTPConnection) -> str:
        """Names who asks."""
        named = hashlib.sha256(connection.headers.get("authorization", "").encode()).hexdigest()
        return f"{connection.client.host if connection.client else ''} {named}"

    def put(self, connection: HTTPConnection, start: _Start) -> None:
        client = self.client(connection)
        self._known[client] = start
        self._known.move_to_end(client)
        while len(self._known) > MOST_CLIENTS:
            self._known.popitem(last=False)

    def get(self, connection: HTTPConnection) -> _Start:
        """Raises where there was none, or where it was refused."""
        start = self._known.get(self.client(connection))
        if start is None:
            raise RequestError("failed_precondition", "This client has not started: POST /start first.")
        if start.refusal is not None:
            raise start.refusal
        self._known.move_to_end(self.client(connection))
        return start


def check_size(width: int, height: int) -> None:
    """Raise where a frame would not reach RoomKit's client."""
    size = HEADER.size + width * height * 3
    if size > MOST_BYTES:
        raise invalid(
            f"{width}x{height} in RGB24 is {size} bytes a frame, and RoomKit's WebSocketAvatarProvider drops every "
            f"message above {MOST_BYTES} bytes without a word: take at most 590x590, or use "
            "visavis.HTTPAvatarProvider, which has no such limit."
        )


def picture_bytes(text: str) -> bytes:
    """The bytes of a ``reference_image``: base64 as encoders of many languages write it.

    Line breaks (RFC 2045 section 6.8), the URL-safe alphabet, missing padding and a ``data:`` URL's head are taken.
    Raises ``binascii.Error`` for anything else.
    """
    head, comma, rest = text.partition(",")
    if comma and head.strip().lower().startswith("data:") and head.rstrip().lower().endswith(";base64"):
        text = rest
    text = "".join(text.split()).translate(_URL_SAFE).rstrip("=")
    if not text.isascii():
        raise binascii.Error("not ASCII")
    return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)


async def _start(core: Core, request: Request) -> tuple[_Start, int]:
    core.check_open_to_new()
    most = core.settings.image_bytes * 3 // 2 + 4096  # base64 and its line breaks
    client = http_socket.client_of(request)
    async with core.uploads.whole(client, limited(request, most, "The body").stream()) as data:
        order, image = _order(data)
        del data
        file = await core.uploads.begin()
        await core.uploads.append(file, image)
        del image
    fps = order.fps or core.settings.stock_fps
    wanted = PrepareRequest(file, order.width, order.height, Fraction(fps), "crop", {}, client=client)
    steps = core.avatars.prepare(wanted)
    async with contextlib.aclosing(steps):
        async for step in steps:
            if isinstance(step, StoredAvatar):
                return _Start(step.avatar_id, order.sample_rate), fps
    raise RequestError("internal", "The preparation ended without an avatar: see the server's log.")


def _order(data: bytes) -> tuple[http_schemas.Start, bytes]:
    """What is asked for, and the picture's file. Raises :class:`RequestError`."""
    try:
        order = http_schemas.Start.model_validate_json(data)
        image = picture_bytes(order.reference_image)
        Resampler(order.sample_rate)
    except ValidationError as error:
        raise invalid(
            f"/start takes a JSON object; {http_schemas.first_error(error.errors())}: send reference_image "
            "(base64), width, height and sample_rate."
        ) from None
    except binascii.Error:
        raise invalid(
            "reference_image is not base64: encode the bytes of a JPEG, PNG or WebP file."
        ) from None
    except ValueError as error:
        raise invalid(f"/start: {error}.") from None
    check_size(order.width, order.height)
    order.reference_image = ""
    return order, image


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": http_schemas.Start.model_json_schema()}},
    }
}


def install(app: FastAPI, core: Core) -> None:
    """Add RoomKit's routes."""
    starts = _Starts()

    @app.post("/start", summary="RoomKit: the portrait", tags=["roomkit"], openapi_extra=_BODY)
    @needs("prepare")
    async def start(request: Request) -> http_schemas.Started:
        """JSON: ``reference_image`` (base64), ``width``, ``height``, ``sample_rate``. Cheap the second time."""
        try:
            begun, fps = await _start(core, request)
        except RequestError as error:
            starts.put(request, _Start("", 0, error))
            raise
        starts.put(request, begun)
        return http_schemas.Started(fps=fps)

    @app.get("/idle_frame", summary="RoomKit: the face at rest", tags=["roomkit"], response_class=Response)
    @needs("stream")
    async def idle_frame(request: Request) -> Response:
        """Width and height as two big-endian 16-bit numbers, then RGB24."""
        avatar = await core.avatars.get(starts.get(request).avatar_id)
        return Response(picture(avatar.body, 0), media_type="application/octet-stream")

    @app.post("/stop", summary="RoomKit: the end", tags=["roomkit"])
    @needs("stream")
    async def stop() -> dict[str, str]:
        """Nothing to do: a session ends with its socket, and another provider may live at the same address."""
        return {"status": "stopped"}

    @app.websocket("/ws/stream")
    @needs("stream")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            begun = starts.get(websocket)
            avatar = await core.avatars.get(begun.avatar_id)
            check_size(avatar.body.width, avatar.body.height)
            open_request = Open(avatar.avatar_id, pixel_format="rgb24", scope="whole", follows_path=True)
            opened = await core.open(open_request, http_socket.client_of(websocket))
            try:
                await StockTalk(core, opened, begun.sample_rate).serve(websocket)
            finally:
                opened.close()
        except RequestError as error:
            core.log.info("request_failed", route="/ws/stream", kind=error.kind, reason=error.sentence)
            await http_socket.refuse(websocket, error, tell=False)
        except WebSocketDisconnect:
            return
        except Exception:
            core.log.exception("internal_error", route="/ws/stream")
            await http_socket.refuse(websocket, RequestError("internal", http_socket.FAILED), tell=False)
