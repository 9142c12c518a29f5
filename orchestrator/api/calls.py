"""Calls under way: who is on the phone, and what the face says to them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import numpy as np
from fastapi import APIRouter, HTTPException, Query, Request, Response

from orchestrator.api.dependencies import ServicesDep
from orchestrator.api.schemas import (
    AvatarRequest,
    CallId,
    CallView,
    Dialled,
    DialRequest,
    KeysRequest,
    NotShown,
    SayRequest,
    ShowRequest,
    StateRequest,
    TransferRequest,
    TransferView,
    TurnView,
)
from orchestrator.api.shown import json_list, json_object, shown
from orchestrator.calls.gateway import DialOrder
from orchestrator.calls.turns import TurnRecord
from orchestrator.speech.base import PCM
from visavis.service.routes import needs
from visavis.service.unhandled import logged
from visavis.wav import WavReader

ARRIVING = 64
"""Pieces of an upload that wait to be played; then the sender waits."""
LONGEST_S = 3600
"""Seconds of sound that one upload may play."""

router = APIRouter(prefix="/v1/calls", tags=["calls"])


@router.get("", summary="Calls under way, and the last ended ones", response_model=list[CallView | NotShown])
@needs("calls:read")
async def list_calls(services: ServicesDep) -> Response:
    return json_list(shown(CallView.of, call, call.call_id) for call in services.orchestrator.calls)


@router.post("", status_code=202, summary="Call somebody")
@needs("calls:dial")
async def dial(request: DialRequest, services: ServicesDep) -> Dialled:
    order = DialOrder(
        to=request.to,
        avatar=request.avatar,
        text=request.say,
        language=request.language or services.language,
        video=request.video,
        account=request.account,
        assistant=request.assistant,
    )
    if order.assistant is not None:
        services.orchestrator.conversations.check(order.assistant)
    return Dialled(call_id=await services.orchestrator.dial(order))


@router.get("/{call_id}", summary="One call", response_model=CallView | NotShown)
@needs("calls:read")
async def get_call(call_id: CallId, services: ServicesDep) -> Response:
    return json_object(shown(CallView.of, services.call(call_id), call_id))


@router.delete("/{call_id}", status_code=204, summary="Hang up")
@needs("calls:speak")
async def hang_up(call_id: CallId, services: ServicesDep) -> None:
    services.call(call_id).hang_up()


@router.post("/{call_id}/say", status_code=202, summary="Speak a text")
@needs("calls:speak")
async def say(call_id: CallId, request: SayRequest, services: ServicesDep) -> TurnView:
    call, language = services.call(call_id), request.language or services.language
    turn = call.say(request.text, language, replace=request.mode == "replace")
    if request.wait:
        await turn.done.wait()
    return TurnView.of(turn)


@router.post(
    "/{call_id}/play",
    status_code=202,
    summary="Speak a WAV file; the body is the file, played while it arrives",
)
@needs("calls:speak")
async def play(
    call_id: CallId,
    request: Request,
    services: ServicesDep,
    mode: Annotated[str, Query(pattern="^(queue|replace)$")] = "queue",
) -> TurnView:
    call = services.call(call_id)
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
    rest = logged(asyncio.create_task(_discard(turn, arriving)), "upload")
    try:
        left = LONGEST_S * reader.sample_rate - len(first)
        await arriving.put(first)
        async for data in body:
            samples = reader.feed(data)
            left -= len(samples)
            if left < 0:
                raise HTTPException(
                    413, f"more than {LONGEST_S} seconds of sound: send the rest in another request"
                )
            await arriving.put(samples)
    finally:
        await arriving.put(None)
        rest.cancel()
    return TurnView.of(turn)


@router.post("/{call_id}/dtmf", status_code=204, summary="Press keys")
@needs("calls:speak")
async def press(call_id: CallId, request: KeysRequest, services: ServicesDep) -> None:
    await services.call(call_id).press(request.digits, request.milliseconds)


@router.put("/{call_id}/video", status_code=204, summary="Give the caller a picture, or take it away")
@needs("calls:speak")
async def show(call_id: CallId, request: ShowRequest, services: ServicesDep) -> None:
    await services.call(call_id).show(request.shown)


@router.put("/{call_id}/avatar", status_code=204, summary="Show the caller another face")
@needs("calls:speak")
async def show_avatar(call_id: CallId, request: AvatarRequest, services: ServicesDep) -> None:
    call, portrait = services.call(call_id), services.catalog.get(request.avatar)
    if portrait is None:
        raise HTTPException(404, f"there is no avatar '{request.avatar}': GET /v1/avatars lists them")
    call.show_avatar(portrait)


@router.put("/{call_id}/state", status_code=204, summary="What the face does while nothing is said")
@needs("calls:speak")
async def show_state(call_id: CallId, request: StateRequest, services: ServicesDep) -> None:
    services.call(call_id).show_state(request.state or "")


@router.post("/{call_id}/transfer", summary="Send the caller to somebody else")
@needs("calls:dial")
async def transfer(call_id: CallId, request: TransferRequest, services: ServicesDep) -> TransferView:
    return TransferView(status=await services.call(call_id).transfer(request.to))


@router.post("/{call_id}/interrupt", status_code=204, summary="Be silent now")
@needs("calls:speak")
async def interrupt(call_id: CallId, services: ServicesDep) -> None:
    services.call(call_id).interrupt()


async def _drain(arriving: asyncio.Queue[PCM | None]) -> AsyncIterator[PCM]:
    while (samples := await arriving.get()) is not None:
        yield samples


async def _discard(turn: TurnRecord, arriving: asyncio.Queue[PCM | None]) -> None:
    """What comes after an interruption, so that its sender is not kept waiting."""
    await turn.done.wait()
    while await arriving.get() is not None:
        pass
    arriving.put_nowait(None)  # for the speaker, who may listen still
