"""Records of ended calls, and SIP traces on request."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Response
from fastapi.responses import PlainTextResponse

from orchestrator.api.dependencies import ServicesDep, no_call
from orchestrator.api.schemas import CallId, NotShown, RecordView, TraceRequest
from orchestrator.api.shown import json_list, json_object, shown
from visavis.service.routes import needs

router = APIRouter(prefix="/v1", tags=["records"])


@router.get(
    "/records",
    summary="Calls that have ended, the newest first",
    response_model=list[RecordView | NotShown],
)
@needs("calls:read")
async def list_records(
    services: ServicesDep, limit: Annotated[int, Query(ge=1, le=10_000)] = 100
) -> Response:
    records = services.orchestrator.records.latest(limit)
    return json_list(shown(RecordView.of, record, record.call_id) for record in records)


@router.get("/records/{call_id}", summary="One call that has ended", response_model=RecordView | NotShown)
@needs("calls:read")
async def get_record(call_id: CallId, services: ServicesDep) -> Response:
    record = services.orchestrator.records.find(call_id)
    if record is None:
        raise HTTPException(404, f"there is no record of call '{call_id}': it goes on, or was long ago")
    return json_object(shown(RecordView.of, record, call_id))


@router.put("/traces", status_code=204, summary="Trace the SIP messages of coming calls")
@needs("admin")
async def trace_calls(request: TraceRequest, services: ServicesDep) -> None:
    services.orchestrator.trace_calls(request.calls)


@router.put("/calls/{call_id}/trace", status_code=204, summary="Trace the SIP messages of a call under way")
@needs("admin")
async def start_trace(call_id: CallId, services: ServicesDep) -> None:
    if not services.orchestrator.start_trace(call_id):
        raise HTTPException(404, f"call '{call_id}' is not under way: GET /v1/calls lists them")


@router.get(
    "/calls/{call_id}/trace",
    summary="The SIP messages of a traced call, credentials removed",
    response_class=PlainTextResponse,
)
@needs("admin")
async def get_trace(call_id: CallId, services: ServicesDep) -> str:
    text = services.orchestrator.trace(call_id)
    if text is None:
        raise no_call(call_id)
    if not text:
        raise HTTPException(404, f"call '{call_id}' is not traced: PUT /v1/calls/{call_id}/trace first")
    return text
