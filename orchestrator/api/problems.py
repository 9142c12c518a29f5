"""Every error of the API as problem details (RFC 9457)."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from orchestrator.api.schemas import Problem
from orchestrator.archive.database import DatabaseAway
from orchestrator.archive.sealed_text import Unreadable
from orchestrator.assistants.base import AssistantError
from orchestrator.calls.call import CallGone
from orchestrator.calls.gateway import DialForbidden, DialLimit, DialRefused, RequestRefused
from orchestrator.calls.portraits import AvatarError
from orchestrator.calls.turns import TooManyTurns
from orchestrator.conversation.conversations import TooManyConversations
from orchestrator.recording.kept import RecordingRefused
from orchestrator.recording.sealed import WrongKey
from orchestrator.recording.store import StoreAway
from orchestrator.speech.base import SpeechError
from visavis.service.text import escaped
from visavis.wav import WavError

_STATUS: dict[type[Exception], int] = {
    AvatarError: 400,
    SpeechError: 400,
    WavError: 400,
    CallGone: 410,
    TooManyTurns: 429,
    AssistantError: 400,
    TooManyConversations: 429,
    DialForbidden: 403,
    DialLimit: 429,
    DialRefused: 409,
    RequestRefused: 409,
    DatabaseAway: 503,
    RecordingRefused: 409,
    StoreAway: 503,
    WrongKey: 409,
    Unreadable: 409,
}


def problem(status: int, detail: str) -> JSONResponse:
    """One problem as a response."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, detail=escaped(detail))
    return JSONResponse(body.model_dump(), status, media_type="application/problem+json")


def install_problems(app: FastAPI) -> None:
    """Answer with problem details wherever FastAPI or the orchestrator raises."""

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        detail = str(error.detail)
        if detail == HTTPStatus(404).phrase:
            detail = f"There is nothing at {request.url.path[:200]}: /docs lists the routes."
        return problem(error.status_code, detail)

    @app.exception_handler(ClientDisconnect)
    async def _gone(_: Request, __: ClientDisconnect) -> JSONResponse:
        return problem(400, "the request ended before its body did")

    @app.exception_handler(RequestValidationError)
    async def _invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part != "body")
        said = f"{where or 'body'}: {first['msg']}"
        if not where and "json" not in (given := request.headers.get("content-type", "")):
            said += f" (send it with content-type: application/json, not {given[:80] or 'without one'})"
        return problem(422, said)

    async def _known(_: Request, error: Exception) -> JSONResponse:
        return problem(next(s for kind, s in _STATUS.items() if isinstance(error, kind)), str(error))

    for kind in _STATUS:
        app.add_exception_handler(kind, _known)
