"""Recordings: of a call under way, and those that are kept."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, HTTPException, Path, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field

from orchestrator.api.dependencies import Services, ServicesDep
from orchestrator.api.schemas import CallId
from orchestrator.archive.entries import RecordingPart
from visavis.service.routes import needs

router = APIRouter(prefix="/v1", tags=["recordings"])
_PIECE = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
RecordingId = Annotated[str, Path(description="id of a recording, as in GET /v1/recordings")]


class RecordingState(BaseModel):
    """How a call is recorded."""

    state: Literal["off", "recording", "paused"]


class RecordingChange(BaseModel):
    """Pause or resume."""

    paused: bool = Field(
        description="true: nothing is kept of what comes, in the transcript neither, until false"
    )


class RecordingView(BaseModel):
    """A part of a call's recording: a file. A call has a further part where the picture's size changed, or the
    recorder began anew."""

    recording_id: str
    call_id: str
    number: int
    began_at: float = Field(description="seconds since the epoch")
    seconds: float = Field(description="0 while it is being recorded")
    bytes: int = Field(description="0 while it is being recorded")
    width: int = Field(description="of the picture; 0 without one")
    height: int
    state: Literal["recording", "whole", "cut"] = Field(
        description="cut: the recorder ended in the midst of it; it can be played up to there"
    )
    encrypted: bool = Field(description="where it lies; it is downloaded as it was recorded")

    @classmethod
    def of(cls, part: RecordingPart) -> RecordingView:
        """The view of a part."""
        fields: dict[str, Any] = {name: getattr(part, name, None) for name in cls.model_fields}
        return cls(**fields | {"bytes": part.size})


@router.get("/calls/{call_id}/recording", summary="Whether a call is recorded")
@needs("calls:listen")
async def get_state(call_id: CallId, services: ServicesDep) -> RecordingState:
    services.call(call_id)
    return RecordingState(state=services.orchestrator.recordings.state_of(call_id))


@router.post("/calls/{call_id}/recording", status_code=202, summary="Begin to record a call")
@needs("calls:listen")
async def begin(call_id: CallId, services: ServicesDep) -> RecordingState:
    services.orchestrator.recordings.record(services.call(call_id))
    return await get_state(call_id, services)


@router.patch("/calls/{call_id}/recording", summary="Pause or resume a recording")
@needs("calls:listen")
async def change(call_id: CallId, request: RecordingChange, services: ServicesDep) -> RecordingState:
    services.call(call_id)
    services.orchestrator.recordings.pause(call_id, request.paused)
    return await get_state(call_id, services)


@router.delete("/calls/{call_id}/recording", status_code=204, summary="End a recording; it is kept")
@needs("calls:listen")
async def end(call_id: CallId, services: ServicesDep) -> None:
    services.call(call_id)
    if not services.orchestrator.recordings.stop(call_id):
        raise HTTPException(409, f"call '{call_id}' is not recorded: POST /v1/calls/{call_id}/recording")


@router.get(
    "/recordings",
    summary="What was recorded, the newest first",
    description="Where there are more, the header Link (rel=next) has the address of the next page.",
)
@needs("calls:listen")
async def list_recordings(
    request: Request,
    response: Response,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    call_id: Annotated[str | None, Query(max_length=100)] = None,
    cursor: Annotated[str, Query(max_length=100, description="as the page before names it in Link")] = "",
) -> list[RecordingView]:
    after = _place(cursor) if cursor else None
    parts = await services.orchestrator.archive.recordings(limit, call_id, after)
    if len(parts) == limit:
        last = parts[-1]
        following = request.url.include_query_params(cursor=f"{last.began_at}~{last.call_id}~{last.number}")
        response.headers["link"] = f'<{following.path}?{following.query}>; rel="next"'
    return [RecordingView.of(part) for part in parts]


def _place(cursor: str) -> tuple[float, str, int]:
    """What a cursor names. Raises ``HTTPException`` 400."""
    try:
        began_at, call_id, number = cursor.split("~")
        return float(began_at), call_id, int(number)
    except ValueError:
        raise HTTPException(400, "the cursor is not one of ours: follow Link of the page before") from None


@router.get("/recordings/{recording_id}", summary="One recording")
@needs("calls:listen")
async def get_recording(recording_id: RecordingId, services: ServicesDep) -> RecordingView:
    return RecordingView.of(await _part(recording_id, services))


@router.delete("/recordings/{recording_id}", status_code=204, summary="Erase one recording")
@needs("admin")
async def erase_recording(recording_id: RecordingId, services: ServicesDep) -> None:
    await services.orchestrator.recordings.kept.erase(await _part(recording_id, services))


@router.get(
    "/recordings/{recording_id}/media",
    summary="The file of a recording: MP4, or a range of it",
    response_class=StreamingResponse,
    responses={200: {"content": {"video/mp4": {}}}, 206: {"content": {"video/mp4": {}}}},
)
@needs("calls:listen")
async def get_media(
    recording_id: RecordingId, services: ServicesDep, range: Annotated[str, Header()] = ""
) -> Response:
    part = await _part(recording_id, services)
    recordings = services.orchestrator.recordings
    recordings.kept.check_here(part)
    try:
        file = await asyncio.to_thread(recordings.kept.store.open, f"{recording_id}.mp4", part.encrypted)
        size = await asyncio.to_thread(file.seek, 0, io.SEEK_END)
    except FileNotFoundError:
        raise HTTPException(404, f"the file of recording '{recording_id}' is gone") from None
    begin, end = _wanted(range, size)
    headers = {
        "accept-ranges": "bytes",
        "content-length": str(end - begin),
        "content-disposition": f'inline; filename="{recording_id}.mp4"',
        "cache-control": "no-store",
    }
    partial = bool(range) and (begin, end) != (0, size)
    if partial:
        headers["content-range"] = f"bytes {begin}-{end - 1}/{size}"
    return StreamingResponse(
        _pieces(file, begin, end), 206 if partial else 200, headers, media_type="video/mp4"
    )


def _wanted(header: str, size: int) -> tuple[int, int]:
    """The bytes that a Range asks for (RFC 9110 section 14.2), all where it is none of ours.

    Raises ``HTTPException`` 416.
    """
    match = _RANGE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return 0, size
    first, last = match.groups()
    begin, end = (int(first), int(last) + 1 if last else size) if first else (size - int(last), size)
    begin, end = max(0, begin), min(end, size)
    if begin >= end:
        raise HTTPException(416, f"the file has {size} bytes", {"content-range": f"bytes */{size}"})
    return begin, end


async def _pieces(file: io.BufferedIOBase, begin: int, end: int) -> AsyncIterator[bytes]:
    try:
        await asyncio.to_thread(file.seek, begin)
        while begin < end and (data := await asyncio.to_thread(file.read, min(_PIECE, end - begin))):
            begin += len(data)
            yield bytes(data)
    finally:
        await asyncio.to_thread(file.close)


async def _part(recording_id: str, services: Services) -> RecordingPart:
    part = await services.orchestrator.recordings.kept.find(recording_id)
    if part is None:
        raise HTTPException(404, f"there is no recording '{recording_id}': GET /v1/recordings lists them")
    return part
