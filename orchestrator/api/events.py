"""Events of calls as they happen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from orchestrator.api.dependencies import ServicesDep
from visavis.service.routes import needs

KEEPALIVE_S = 15.0

router = APIRouter(tags=["events"])


@router.get("/v1/events", summary="Call events as server-sent events")
@needs("calls:read")
async def events(request: Request, services: ServicesDep, call_id: str | None = None) -> StreamingResponse:
    async def stream() -> AsyncIterator[str]:
        async with services.bus.listen(call_id=call_id) as queue:
            yield ": connected\n\n"
            while not await request.is_disconnected():
                try:
                    event = await asyncio.wait_for(queue.get(), KEEPALIVE_S)
                except TimeoutError:
                    yield ": keepalive\n\n"
                    continue
                yield f"event: {event.kind}\ndata: {event.as_json()}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")
