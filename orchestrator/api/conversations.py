"""Who talks with the caller, and what was said."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Query, Response
from pydantic import BaseModel, Field

from orchestrator.api.dependencies import ServicesDep, no_call
from orchestrator.api.schemas import CallId
from orchestrator.conversation.transcript import TranscriptEntry
from orchestrator.conversation.webvtt import webvtt
from visavis.service.routes import needs

router = APIRouter(prefix="/v1/calls/{call_id}", tags=["conversations"])


class AssistantView(BaseModel):
    """Who talks with the caller, and what it does."""

    assistant: str = Field(description="none: the API alone talks")
    state: str = Field(
        description="listening, thinking, speaking or held; empty: nobody talks with the caller"
    )
    hears: bool = Field(description="whether what the caller says is understood now")


class AssistantChange(BaseModel):
    """What is left out stays as it is."""

    assistant: Annotated[str, Field(max_length=100)] | None = Field(
        None, description="who talks from now on; none: nobody"
    )
    held: bool | None = Field(
        None, description="true: it says nothing of its own, while somebody else has the call"
    )


class TranscriptEntryView(BaseModel):
    """One utterance; times are seconds since the epoch."""

    number: int
    speaker: str = Field(description="caller or assistant")
    text: str = Field(description="of the assistant's words those that the caller has heard")
    began_at: float
    ended_at: float
    whole: bool = Field(description="false: the caller has interrupted it")
    keys: int = Field(description="so many keys were pressed, which are not told")


class TranscriptView(BaseModel):
    """What was said so far, the oldest first."""

    call_id: str
    entries: list[TranscriptEntryView]


@router.get("/assistant", summary="Who talks with the caller")
@needs("calls:read")
async def get_assistant(call_id: CallId, services: ServicesDep) -> AssistantView:
    services.call(call_id)
    conversations = services.orchestrator.conversations
    state = conversations.state_of(call_id)
    hears = bool(state) and conversations.hears
    return AssistantView(assistant=conversations.assistant_of(call_id), state=state, hears=hears)


@router.patch("/assistant", summary="Have somebody else talk with the caller, or nobody, or pause")
@needs("calls:speak")
async def change_assistant(call_id: CallId, change: AssistantChange, services: ServicesDep) -> AssistantView:
    call, conversations = services.call(call_id), services.orchestrator.conversations
    name = change.assistant if change.assistant is not None else conversations.assistant_of(call_id)
    held = change.held if change.held is not None else conversations.state_of(call_id) == "held"
    conversations.choose(call, name, hold=held)
    return await get_assistant(call_id, services)


@router.get(
    "/transcript",
    summary="What was said, also in a call that has ended",
    description="As WebVTT, times count from the answer, or from `zero`, such as a recording's `began_at`.",
    response_model=TranscriptView,
    responses={200: {"content": {"text/vtt": {}}}},
)
@needs("calls:read")
async def get_transcript(
    call_id: CallId,
    services: ServicesDep,
    format: Literal["json", "vtt"] = "json",
    zero: Annotated[float | None, Query(description="seconds since the epoch")] = None,
) -> Response:
    entries, answered_at = await _said(call_id, services)
    if format == "vtt":
        return Response(webvtt(entries, answered_at if zero is None else zero), media_type="text/vtt")
    views = [TranscriptEntryView(**entry.as_dict()) for entry in entries]
    return Response(
        TranscriptView(call_id=call_id, entries=views).model_dump_json(), media_type="application/json"
    )


async def _said(call_id: str, services: ServicesDep) -> tuple[list[TranscriptEntry], float]:
    """What was said, and when the call was answered. Raises ``HTTPException`` 404."""
    orchestrator = services.orchestrator
    call = orchestrator.call(call_id)
    if call is not None and call.ended_at is None:
        transcript = orchestrator.conversations.transcript(call_id)
        entries, answered_at = transcript.entries if transcript else None, call.answered_at
    else:
        record = await orchestrator.archive.record(call_id)
        if record is None and call is None:
            raise no_call(call_id)
        answered_at = record.answered_at if record is not None else call.answered_at if call else None
        entries = await orchestrator.archive.transcript(call_id) or None
    if entries is None:
        raise HTTPException(404, f"no assistant has talked in call '{call_id}', so nothing was written down")
    return entries, answered_at or 0.0
