"""Who talks with the caller, and what was said."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException
from pydantic import BaseModel, Field

from orchestrator.api.dependencies import ServicesDep
from orchestrator.api.schemas import CallId
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


@router.get("/transcript", summary="What was said")
@needs("calls:read")
async def get_transcript(call_id: CallId, services: ServicesDep) -> TranscriptView:
    transcript = services.orchestrator.conversations.transcript(call_id)
    if transcript is None:
        services.call(call_id)
        raise HTTPException(404, f"no assistant has talked in call '{call_id}', so nothing was written down")
    entries = [TranscriptEntryView(**entry.as_dict()) for entry in transcript.entries]
    return TranscriptView(call_id=call_id, entries=entries)
