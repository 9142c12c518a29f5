"""The control API: calls, avatars, events, health, metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Protocol

import numpy as np
from fastapi import FastAPI, HTTPException, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from orchestrator.api.problems import install_problems
from orchestrator.api.records import Recording, records_router
from orchestrator.api.schemas import (
    AvatarView,
    CallId,
    CallView,
    Dialled,
    DialRequest,
    KeysRequest,
    Problem,
    Readiness,
    SayRequest,
    TransferRequest,
    TransferView,
    TurnView,
)
from orchestrator.avatars import DEFAULT, MAX_BYTES, AvatarCatalog, AvatarError, Portrait
from orchestrator.call import Call
from orchestrator.events import EventBus
from orchestrator.line import DialOrder
from orchestrator.speech.base import PCM
from orchestrator.speech.wav import WavReader

KEEPALIVE_S = 15.0
ARRIVING = 64
"""Pieces of an upload that wait to be played; then the sender waits."""

AvatarName = Annotated[str, Path(description="name of the avatar: the user part callers dial")]


class Orchestrator(Recording, Protocol):
    """What the API drives."""

    @property
    def calls(self) -> Sequence[Call]: ...
    def call(self, call_id: str) -> Call | None: ...
    def missing(self) -> list[str]: ...
    async def dial(self, order: DialOrder) -> str: ...
    async def check_portrait(self, data: bytes) -> None: ...
    def portrait_changed(self, portrait: Portrait) -> None: ...


def create_app(
    orchestrator: Orchestrator,
    catalog: AvatarCatalog,
    bus: EventBus,
    registry: CollectorRegistry,
    language: str,
    version: str,
) -> FastAPI:
    """The FastAPI application over a running orchestrator."""
    app = FastAPI(
        title="Visavis orchestrator",
        version=version,
        summary="Calls with a talking face: who is on the phone, what the face says, which face it is.",
        responses={"4XX": {"model": Problem}},
    )
    install_problems(app)
    app.include_router(records_router(orchestrator))

    def _call(call_id: str) -> Call:
        call = orchestrator.call(call_id)
        if call is None:
            raise HTTPException(404, f"there is no call '{call_id}': GET /v1/calls lists them")
        return call

    @app.get("/healthz", tags=["health"], summary="The process lives")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["health"], summary="Calls get a talking face", response_model=Readiness)
    async def readyz() -> JSONResponse:
        missing = orchestrator.missing()
        body = Readiness(ready=not missing, missing=missing)
        return JSONResponse(body.model_dump(), 503 if missing else 200)

    @app.get("/metrics", tags=["health"], summary="Prometheus metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    @app.get("/v1/calls", tags=["calls"], summary="Calls under way, and the last ended ones")
    async def list_calls() -> list[CallView]:
        return [CallView.of(call) for call in orchestrator.calls]

    @app.post("/v1/calls", tags=["calls"], status_code=202, summary="Call somebody")
    async def dial(request: DialRequest) -> Dialled:
        order = DialOrder(
            to=request.to,
            avatar=request.avatar,
            text=request.say,
            language=request.language or language,
            video=request.video,
            account=request.account,
        )
        return Dialled(call_id=await orchestrator.dial(order))

    @app.get("/v1/calls/{call_id}", tags=["calls"], summary="One call")
    async def get_call(call_id: CallId) -> CallView:
        return CallView.of(_call(call_id))

    @app.delete("/v1/calls/{call_id}", tags=["calls"], status_code=204, summary="Hang up")
    async def hang_up(call_id: CallId) -> None:
        _call(call_id).hang_up()

    @app.post("/v1/calls/{call_id}/say", tags=["calls"], status_code=202, summary="Speak a text")
    async def say(call_id: CallId, request: SayRequest) -> TurnView:
        turn = _call(call_id).say(
            request.text, request.language or language, replace=request.mode == "replace"
        )
        if request.wait:
            await turn.done.wait()
        return TurnView.of(turn)

    @app.post(
        "/v1/calls/{call_id}/play",
        tags=["calls"],
        status_code=202,
        summary="Speak a WAV file; the body is the file, played while it arrives",
    )
    async def play(
        call_id: CallId, request: Request, mode: Annotated[str, Query(pattern="^(queue|replace)$")] = "queue"
    ) -> TurnView:
        call = _call(call_id)
        reader = WavReader()
        body = request.stream()
        first = np.zeros(0, np.int16)
        async for data in body:
            first = reader.feed(data)
            if len(first):
                break
        reader.end()
        arriving: asyncio.Queue[PCM | None] = asyncio.Queue(ARRIVING)
        turn = call.play(_drain(arriving), reader.sample_rate, replace=mode == "replace")
        try:
            await arriving.put(first)
            async for data in body:
                await arriving.put(reader.feed(data))
        finally:
            await arriving.put(None)
        return TurnView.of(turn)

    @app.post("/v1/calls/{call_id}/dtmf", tags=["calls"], status_code=204, summary="Press keys")
    async def press(call_id: CallId, request: KeysRequest) -> None:
        await _call(call_id).press(request.digits, request.milliseconds)

    @app.post("/v1/calls/{call_id}/transfer", tags=["calls"], summary="Send the caller to somebody else")
    async def transfer(call_id: CallId, request: TransferRequest) -> TransferView:
        return TransferView(status=await _call(call_id).transfer(request.to))

    @app.post("/v1/calls/{call_id}/interrupt", tags=["calls"], status_code=204, summary="Be silent now")
    async def interrupt(call_id: CallId) -> None:
        _call(call_id).interrupt()

    @app.get("/v1/events", tags=["events"], summary="Call events as server-sent events")
    async def events(request: Request, call_id: str | None = None) -> StreamingResponse:
        async def stream() -> AsyncIterator[str]:
            async with bus.listen() as queue:
                yield ": connected\n\n"
                while not await request.is_disconnected():
                    try:
                        event = await asyncio.wait_for(queue.get(), KEEPALIVE_S)
                    except TimeoutError:
                        yield ": keepalive\n\n"
                        continue
                    if call_id is None or event.call_id == call_id:
                        yield f"event: {event.kind}\ndata: {json.dumps(event.as_dict())}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream")

    @app.get("/v1/avatars", tags=["avatars"], summary="Portraits that calls can use")
    async def list_avatars() -> list[AvatarView]:
        return [_view(portrait) for name in catalog.names() if (portrait := catalog.get(name))]

    @app.get("/v1/avatars/{name}", tags=["avatars"], summary="The portrait's picture")
    async def get_avatar(name: AvatarName) -> FileResponse:
        portrait = catalog.get(name)
        if portrait is None:
            raise HTTPException(404, f"there is no avatar '{name}': GET /v1/avatars lists them")
        return FileResponse(portrait.path, media_type=portrait.media_type)

    @app.put("/v1/avatars/{name}", tags=["avatars"], summary="Upload a portrait; the body is the picture")
    async def put_avatar(name: AvatarName, request: Request) -> AvatarView:
        length = int(request.headers.get("content-length", "0"))
        if length > MAX_BYTES:
            raise AvatarError(f"the picture has {length} bytes: at most {MAX_BYTES} are taken")
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_BYTES:
                raise AvatarError(f"the picture has more than {MAX_BYTES} bytes: upload a smaller one")
        catalog.check(name, bytes(data))
        await orchestrator.check_portrait(bytes(data))
        portrait = catalog.put(name, bytes(data))
        orchestrator.portrait_changed(portrait)
        return _view(portrait)

    return app


def _view(portrait: Portrait) -> AvatarView:
    return AvatarView(
        name=portrait.name,
        media_type=portrait.media_type,
        bytes=portrait.path.stat().st_size,
        default=portrait.name == DEFAULT,
    )


async def _drain(arriving: asyncio.Queue[PCM | None]) -> AsyncIterator[PCM]:
    while (samples := await arriving.get()) is not None:
        yield samples
