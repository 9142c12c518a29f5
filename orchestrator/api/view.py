"""What a caller sees, for whoever watches: coded pictures over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import APIRouter, WebSocket

from orchestrator.api.dependencies import Services
from orchestrator.worker.messages import Viewed
from visavis.service.routes import needs

NO_SUCH_CALL = 4404

router = APIRouter(tags=["calls"])


@router.websocket("/v1/calls/{call_id}/view")
@needs("calls:read")
async def view(socket: WebSocket, call_id: str) -> None:
    """A binary message a picture: 1 for a key frame or 0, the time stamp (90 kHz, four bytes), H.264 in Annex B."""
    services: Services = socket.app.state.services
    call = services.orchestrator.call(call_id)
    await socket.accept()
    if call is None or call.ended_at is not None:
        await socket.close(NO_SUCH_CALL, "there is no such call under way")
        return
    async with services.orchestrator.view(call_id) as viewer:
        gone = asyncio.create_task(_gone(socket))
        sending = asyncio.create_task(_send(socket, aiter(viewer)))
        try:
            await asyncio.wait({gone, sending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (gone, sending):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, RuntimeError):
                    await task


async def _send(socket: WebSocket, pictures: AsyncIterator[Viewed]) -> None:
    async for picture in pictures:
        head = bytes((picture.key,)) + picture.timestamp.to_bytes(4)
        await socket.send_bytes(head + picture.payload)
    await socket.close()


async def _gone(socket: WebSocket) -> None:
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass
