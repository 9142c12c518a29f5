"""The routes of the HTTP face."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from fractions import Fraction
from importlib.metadata import version
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Header, Query, Request, Response, WebSocket
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.cors import CORSMiddleware

from inference_server.avatars.preparation import PrepareRequest
from inference_server.avatars.store import StoredAvatar
from inference_server.core import Core
from inference_server.errors import RequestError, invalid
from inference_server.frontends import convert
from inference_server.frontends.http import body as http_body
from inference_server.frontends.http import roomkit as http_stock
from inference_server.frontends.http import schemas as http_schemas
from inference_server.frontends.http import socket as http_socket
from inference_server.frontends.http import speech as http_speech
from inference_server.frontends.http import wire as http_wire
from inference_server.frontends.http.problems import details, install_problems, limited
from inference_server.frontends.http.upload import BODY, upload
from visavis.frames import PICTURES_ONCE
from visavis.service.gate import Gate
from visavis.service.routes import add_docs, needs, public, rules_of, tell_security
from visavis.service.security import Guard
from visavis.service.unhandled import logged

WATCH_S = 0.1
BEAT_S = 5.0  # a comment at least this often, so that a client sees a server that is gone
_EVENTS = "text/event-stream"
INDEX = """Visavis inference server {version}

/docs               this server, route by route; the socket /v1/converse is in docs/http.md
/v1/capabilities    what it is and can do
/v1/capacity        how busy it is
/healthz  /readyz  /metrics
"""
_PROBLEMS: dict[int | str, dict[str, Any]] = {
    "default": {
        "description": "Problem details (RFC 9457)",
        "content": {
            "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
        },
    }
}


def names_of(setting: str) -> tuple[str, ...]:
    """Origins or hosts that a setting names."""
    return tuple(name.strip().rstrip("/") for name in setting.split(",") if name.strip())


def make_app(core: Core, guard: Guard, closing: asyncio.Event) -> FastAPI:
    """All routes over one :class:`Core`, behind a gate; ``closing`` ends what would go on for ever."""
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        title="Visavis inference server",
        version=version("visavis"),
        summary="Speech in, mouth pictures out. The socket /v1/converse is described in docs/http.md.",
        responses=_PROBLEMS,
    )
    install_problems(app, core.log)
    _avatar_routes(app, core)
    _server_routes(app, core, closing)
    http_speech.install(app, core)
    http_stock.install(app, core)

    @app.websocket("/v1/converse")
    @needs("stream")
    async def converse(websocket: WebSocket) -> None:
        await http_socket.converse(core, websocket)

    schema = app.openapi

    def openapi() -> dict[str, Any]:
        document = schema()
        document["components"]["schemas"].setdefault("Problem", http_schemas.Problem.model_json_schema())
        return document

    app.openapi = openapi  # type: ignore[method-assign]
    add_docs(app)
    tell_security(app)
    origins, hosts = names_of(core.settings.http_origins), names_of(core.settings.http_hosts)
    app.add_middleware(Gate, guard=guard, rules=rules_of(app), hosts=hosts, origins=origins)
    if origins:  # before the gate: a browser's question whether it may ask brings no token
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["Authorization", "Content-Type", "If-None-Match"],
            expose_headers=["ETag"],
        )
    return app


def _avatar_routes(app: FastAPI, core: Core) -> None:
    @app.post(
        "/v1/avatars",
        summary="Portrait or short video to prepared avatar",
        response_model=http_schemas.AVATAR,
        openapi_extra=BODY,
        tags=["avatars"],
    )
    @needs("prepare")
    async def prepare(
        request: Request,
        width: Annotated[int, Query(description="even")] = convert.DEFAULT_SIZE,
        height: Annotated[int, Query(description="even")] = convert.DEFAULT_SIZE,
        fps: Annotated[str, Query(description="25 or 30000/1001")] = "25",
        fit: Annotated[Literal["crop", "contain"], Query()] = "crop",
        settings: Annotated[str, Query(description="the engine's, as a JSON object of texts")] = "{}",
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Any:
        """The file is the body itself, a video where ``Content-Type`` says so, or the part ``image`` or
        ``video`` of a multipart form.

        Idempotent: the same bytes and settings give the same ids, and a prepared avatar answers at once. With
        ``Accept: text/event-stream`` the answer is events: ``progress`` (0..1), then ``avatar`` or ``problem``.
        """
        core.check_open_to_new()
        rate: Fraction = http_wire.fraction(fps)
        client = http_socket.client_of(request)
        async with core.uploads.place(client):
            file, video = await upload(request, core.settings, core.uploads)
        order = PrepareRequest(file, width, height, rate, fit, _texts(settings), video, client)
        steps = core.avatars.prepare(order)
        if _EVENTS in accept:
            return _stream(_progress(steps))
        async with contextlib.aclosing(steps):
            async for step in steps:
                if isinstance(step, StoredAvatar):
                    headers = {"Location": f"/v1/avatars/{step.avatar_id}"}
                    return JSONResponse(http_wire.avatar(step), headers=headers)
        raise RequestError("internal", "The preparation ended without an avatar: see the server's log.")

    @app.get(
        "/v1/avatars/{avatar_id}",
        summary="A prepared avatar",
        response_model=http_schemas.AVATAR,
        tags=["avatars"],
    )
    @needs("stream")
    async def avatar(avatar_id: str) -> JSONResponse:
        return JSONResponse(http_wire.avatar(await core.avatars.get(avatar_id)))

    @app.get(
        "/v1/avatars/{avatar_id}/body",
        summary="The loop frames",
        tags=["avatars"],
        response_class=Response,
        responses={
            200: {"content": {"application/octet-stream": {}, PICTURES_ONCE: {}}},
            304: {"description": "Not changed"},
        },
    )
    @needs("stream")
    async def body(
        avatar_id: str, accept: Annotated[str, Header()] = "", if_none_match: Annotated[str, Header()] = ""
    ) -> Response:
        """``loop_length`` pictures in I420, ``width * height * 3 / 2`` bytes each, nothing between them.

        Who accepts ``application/vnd.visavis.loop`` gets each picture once: before them, for each loop index the
        first one that shows the same picture (u32, little-endian), and then only those first ones.
        """
        return http_body.answer((await core.avatars.get(avatar_id)).body, accept, if_none_match)

    @app.get(
        "/v1/avatars/{avatar_id}/bundle",
        summary="A prepared avatar for a second server",
        tags=["avatars"],
        response_class=Response,
        responses={200: {"content": {"application/octet-stream": {}}}},
    )
    @needs("server")
    async def export(avatar_id: str) -> Response:
        await core.avatars.get(avatar_id)
        return StreamingResponse(core.avatars.export_avatar(avatar_id), media_type="application/octet-stream")

    @app.post(
        "/v1/bundles",
        summary="Take what another server's bundle route gave",
        response_model=http_schemas.AVATAR,
        tags=["avatars"],
        openapi_extra={"requestBody": {"required": True, "content": {"application/octet-stream": {}}}},
    )
    @needs("server")
    async def import_(request: Request) -> JSONResponse:
        """The engine's build must be the same."""
        chunks = limited(request, core.settings.bundle_bytes, "The bundle").stream()
        return JSONResponse(http_wire.avatar(await core.avatars.import_avatar(chunks)))


def _server_routes(app: FastAPI, core: Core, closing: asyncio.Event) -> None:
    @app.get("/", include_in_schema=False)
    @public
    async def index() -> PlainTextResponse:
        return PlainTextResponse(INDEX.format(version=app.version))

    @app.get(
        "/v1/capabilities",
        summary="What this server is and can do",
        response_model=http_schemas.CAPABILITIES,
        tags=["server"],
    )
    @needs("stream")
    async def capabilities() -> JSONResponse:
        return JSONResponse(http_wire.capabilities(core))

    @app.get("/v1/capacity", summary="How busy it is", response_model=http_schemas.CAPACITY, tags=["server"])
    @needs("stream")
    async def capacity(accept: Annotated[str, Header(include_in_schema=False)] = "") -> Any:
        """With ``Accept: text/event-stream``: events ``capacity``, at once and on change, at most 10 a second."""
        return _stream(_watch(core, closing)) if _EVENTS in accept else JSONResponse(http_wire.capacity(core))

    @app.get("/metrics", summary="Prometheus metrics", tags=["server"], response_class=PlainTextResponse)
    @public
    async def metrics() -> Response:
        return Response(generate_latest(core.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz", summary="The process is alive", tags=["server"])
    @public
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="New conversations are welcome", tags=["server"])
    @public
    async def readyz() -> dict[str, str]:
        if not core.ready:
            raise RequestError("unavailable", f"Not ready: {core.not_ready_reason}.")
        return {"status": "ready"}


async def _watch(core: Core, closing: asyncio.Event) -> AsyncIterator[str]:
    told, quiet = None, 0.0
    while not closing.is_set():
        now = core.capacity()
        quiet += WATCH_S
        if now != told:
            told, quiet = now, 0.0
            yield _event("capacity", http_wire.capacity(core))
        elif quiet >= BEAT_S:
            quiet = 0.0
            yield ": still here\n\n"
        await asyncio.sleep(WATCH_S)


async def _progress(steps: AsyncGenerator[float | StoredAvatar, None]) -> AsyncIterator[str]:
    queue: asyncio.Queue[str | None] = asyncio.Queue()

    async def follow() -> None:
        try:
            async with contextlib.aclosing(steps):
                async for step in steps:
                    if isinstance(step, StoredAvatar):
                        queue.put_nowait(_event("avatar", http_wire.avatar(step)))
                    else:
                        queue.put_nowait(_event("progress", {"progress": step}))
        except RequestError as error:
            queue.put_nowait(_event("problem", details(error).model_dump()))
        finally:
            queue.put_nowait(None)

    task = logged(asyncio.create_task(follow()), "preparation")
    try:
        while True:
            try:
                async with asyncio.timeout(BEAT_S):
                    event = await queue.get()
            except TimeoutError:
                yield ": still here\n\n"
                continue
            if event is None:
                return
            yield event
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _stream(events: AsyncIterator[str]) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events, media_type=_EVENTS, headers=headers)


def _event(name: str, data: Any) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


def _texts(settings: str) -> dict[str, str]:
    try:
        values = json.loads(settings)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise invalid('settings must be a JSON object such as {"bbox_shift": "5"}.')
    return {str(k): v if isinstance(v, str) else json.dumps(v) for k, v in values.items()}
