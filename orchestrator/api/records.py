"""Records of ended calls, and SIP traces on request."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Query, Request, Response
from fastapi.responses import PlainTextResponse

from orchestrator.api.dependencies import ServicesDep, no_call
from orchestrator.api.schemas import CallId, NotShown, RecordView, TraceRequest
from orchestrator.api.shown import json_list, json_object, shown
from orchestrator.archive.entries import Page
from visavis.service.routes import needs

router = APIRouter(prefix="/v1", tags=["records"])


@router.get(
    "/records",
    summary="Calls that have ended, the newest first",
    description="Where there are more, the header Link (rel=next) has the address of the next page.",
    response_model=list[RecordView | NotShown],
)
@needs("calls:read")
async def list_records(
    request: Request,
    services: ServicesDep,
    limit: Annotated[int, Query(ge=1, le=10_000)] = 100,
    since: Annotated[
        float | None, Query(description="ended at this time or later, in seconds since the epoch")
    ] = None,
    until: Annotated[float | None, Query(description="ended before this time")] = None,
    cursor: Annotated[str, Query(max_length=100, description="as the page before names it in Link")] = "",
) -> Response:
    page = Page(limit, since, until, _place(cursor) if cursor else None)
    records = await services.orchestrator.archive.page(page)
    answer = json_list(shown(RecordView.of, record, record.call_id) for record in records)
    if len(records) == limit:
        following = request.url.include_query_params(cursor=f"{records[-1].ended_at}~{records[-1].call_id}")
        answer.headers["link"] = f'<{following.path}?{following.query}>; rel="next"'
    return answer


def _place(cursor: str) -> tuple[float, str]:
    """What a cursor names. Raises ``HTTPException`` 400."""
    ended_at, _, call_id = cursor.partition("~")
    try:
        return float(ended_at), call_id
    except ValueError:
        raise HTTPException(400, "the cursor is not one of ours: follow Link of the page before") from None


@router.get("/records/{call_id}", summary="One call that has ended", response_model=RecordView | NotShown)
@needs("calls:read")
async def get_record(call_id: CallId, services: ServicesDep) -> Response:
    record = await services.orchestrator.archive.record(call_id)
    if record is None:
        raise HTTPException(404, f"there is no record of call '{call_id}': it goes on, or was long ago")
    return json_object(shown(RecordView.of, record, call_id))


@router.delete(
    "/records/{call_id}", status_code=204, summary="Erase everything that is kept of a call that has ended"
)
@needs("admin")
async def erase(call_id: CallId, services: ServicesDep) -> None:
    call = services.orchestrator.call(call_id)
    if call is not None and not call.over.is_set():
        raise HTTPException(409, f"call '{call_id}' goes on: DELETE /v1/calls/{call_id} hangs up")
    if not await services.orchestrator.erase(call_id):
        raise HTTPException(404, f"nothing is kept of call '{call_id}'")


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
    if text is None and await services.orchestrator.archive.record(call_id) is None:
        raise no_call(call_id)
    if not text:
        raise HTTPException(404, f"call '{call_id}' is not traced: PUT /v1/calls/{call_id}/trace first")
    return text
