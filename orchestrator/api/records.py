"""Records of ended calls, and SIP traces on request."""

from __future__ import annotations

from typing import Annotated, Protocol

from fastapi import APIRouter, HTTPException, Query
from fastapi.responses import PlainTextResponse

from orchestrator.api.schemas import CallId, RecordView, TraceRequest
from orchestrator.records import RecordBook


class Recording(Protocol):
    """What these routes drive. A trace is None of a call that is not there, "" of one that is not traced."""

    @property
    def records(self) -> RecordBook: ...
    def trace(self, call_id: str) -> str | None: ...
    def start_trace(self, call_id: str) -> bool: ...
    def trace_calls(self, calls: int) -> None: ...


def records_router(orchestrator: Recording) -> APIRouter:
    """The routes under ``/v1/records`` and those of traces."""
    router = APIRouter()

    @router.get("/v1/records", tags=["records"], summary="Calls that have ended, the newest first")
    async def list_records(limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> list[RecordView]:
        return [RecordView.of(record) for record in orchestrator.records.latest(limit)]

    @router.get("/v1/records/{call_id}", tags=["records"], summary="One call that has ended")
    async def get_record(call_id: CallId) -> RecordView:
        record = orchestrator.records.find(call_id)
        if record is None:
            raise HTTPException(404, f"there is no record of call '{call_id}': it goes on, or was long ago")
        return RecordView.of(record)

    @router.put(
        "/v1/traces", tags=["records"], status_code=204, summary="Trace the SIP messages of coming calls"
    )
    async def trace_calls(request: TraceRequest) -> None:
        orchestrator.trace_calls(request.calls)

    @router.put(
        "/v1/calls/{call_id}/trace",
        tags=["records"],
        status_code=204,
        summary="Trace the SIP messages of a call under way",
    )
    async def start_trace(call_id: CallId) -> None:
        if not orchestrator.start_trace(call_id):
            raise HTTPException(404, f"call '{call_id}' is not under way: GET /v1/calls lists them")

    @router.get(
        "/v1/calls/{call_id}/trace",
        tags=["records"],
        summary="The SIP messages of a traced call, credentials removed",
        response_class=PlainTextResponse,
    )
    async def get_trace(call_id: CallId) -> str:
        text = orchestrator.trace(call_id)
        if text is None:
            raise HTTPException(404, f"there is no call '{call_id}': GET /v1/calls lists them")
        if not text:
            raise HTTPException(404, f"call '{call_id}' is not traced: PUT /v1/calls/{call_id}/trace first")
        return text

    return router
