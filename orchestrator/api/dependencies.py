"""What the routes of the API are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol, cast

from fastapi import Depends, HTTPException, Request
from prometheus_client import CollectorRegistry

from orchestrator.archive.archive import Archive
from orchestrator.calls.call import Call
from orchestrator.calls.events import EventBus
from orchestrator.calls.gateway import DialOrder
from orchestrator.calls.portraits import AvatarCatalog, Portrait
from orchestrator.calls.viewers import Viewer
from orchestrator.conversation.conversations import Conversations
from orchestrator.gateways.web import WebGateway
from orchestrator.recording.recordings import Recordings
from orchestrator.status import StatusDesk


class Orchestrator(Protocol):
    """What the API drives. A trace is None of a call that is not under way and has none, "" of one under way.

    ``erase`` leaves nothing of an ended call; whether there was anything."""

    @property
    def calls(self) -> Sequence[Call]: ...
    def call(self, call_id: str) -> Call | None: ...
    def view(self, call_id: str) -> Viewer: ...
    @property
    def desk(self) -> StatusDesk: ...
    @property
    def conversations(self) -> Conversations: ...
    async def dial(self, order: DialOrder) -> str: ...
    async def put_portrait(self, name: str, data: bytes) -> Portrait: ...
    async def delete_portrait(self, name: str) -> Portrait | None: ...
    @property
    def archive(self) -> Archive: ...
    @property
    def recordings(self) -> Recordings: ...
    async def erase(self, call_id: str) -> bool: ...
    def trace(self, call_id: str) -> str | None: ...
    def start_trace(self, call_id: str) -> bool: ...
    def trace_calls(self, calls: int) -> None: ...


@dataclass(frozen=True)
class Services:
    """One orchestrator and what belongs to it; ``language`` is spoken where a request names none, ``web`` takes the
    calls of browsers."""

    orchestrator: Orchestrator
    catalog: AvatarCatalog
    bus: EventBus
    registry: CollectorRegistry
    language: str
    web: WebGateway | None = None

    def call(self, call_id: str) -> Call:
        """The call with this id. Raises ``HTTPException`` 404."""
        call = self.orchestrator.call(call_id)
        if call is None:
            raise no_call(call_id)
        return call


def no_call(call_id: str) -> HTTPException:
    """404 for a call that is not there."""
    return HTTPException(404, f"there is no call '{call_id}': GET /v1/calls lists them")


def _services(request: Request) -> Services:
    return cast(Services, request.app.state.services)


ServicesDep = Annotated[Services, Depends(_services)]
