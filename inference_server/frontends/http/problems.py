"""Every error of the HTTP face as problem details (RFC 9457), and request bodies of bounded size."""

from __future__ import annotations

import asyncio
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import Message

from inference_server.errors import ErrorKind, RequestError
from inference_server.frontends.http.schemas import Problem, first_error
from visavis.service.logs import Log

BODY_S = 60.0  # what a request body may take to arrive
_LINGER_S = 2.0  # a body that is too large is read on so long, so that the client sees the answer

_STATUS: dict[ErrorKind, int] = {
    "invalid_argument": 400,
    "not_found": 404,
    "failed_precondition": 409,
    "resource_exhausted": 429,
    "internal": 500,
    "unimplemented": 501,
    "unavailable": 503,
    "deadline_exceeded": 504,
}
_KIND: dict[int, ErrorKind] = {404: "not_found", 405: "unimplemented", 408: "deadline_exceeded"}


class TooLarge(RequestError):
    """A request body beyond a limit: 413."""


def details(error: RequestError) -> Problem:
    """A refusal as problem details."""
    status = 413 if isinstance(error, TooLarge) else _STATUS[error.kind]
    return Problem(title=HTTPStatus(status).phrase, status=status, detail=error.sentence, kind=error.kind)


def problem(about: Problem) -> JSONResponse:
    """Problem details as a response."""
    headers = {"Retry-After": "1"} if about.status in (429, 503) else {}
    if about.status == 413:
        headers["Connection"] = "close"
    return JSONResponse(about.model_dump(), about.status, headers, "application/problem+json")


def install_problems(app: FastAPI, log: Log) -> None:
    """Answer with problem details wherever anything raises."""

    @app.exception_handler(RequestError)
    async def _refused(request: Request, error: RequestError) -> JSONResponse:
        log.info("request_failed", route=request.url.path, kind=error.kind, reason=error.sentence)
        return problem(details(error))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        kind = _KIND.get(error.status_code, "invalid_argument")
        detail = str(error.detail)
        if error.status_code == 404:
            detail = f"There is nothing at {request.url.path[:200]}: /docs lists the routes."
        elif error.status_code == 405:
            detail = f"{request.method[:20]} is not for {request.url.path[:200]}: /docs lists the routes."
        answer = problem(
            Problem(
                title=HTTPStatus(error.status_code).phrase, status=error.status_code, detail=detail, kind=kind
            )
        )
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        about = first_error(list(error.errors()))
        return problem(
            Problem(title="Unprocessable Content", status=422, detail=about, kind="invalid_argument")
        )

    @app.exception_handler(Exception)
    async def _failed(request: Request, error: Exception) -> JSONResponse:
        log.exception("internal_error", route=request.url.path)
        return problem(details(RequestError("internal", "The server failed at this request: see its log.")))


def limited(request: Request, limit: int, what: str) -> Request:
    """The same request; reading its body raises :class:`TooLarge` beyond ``limit`` bytes, or after a minute."""
    told = request.headers.get("content-length", "")
    size = 0
    until = asyncio.get_running_loop().time() + BODY_S
    sentence = f"{what} is larger than the {limit} bytes taken here: send a smaller one."

    async def receive() -> Message:
        nonlocal size
        if told.isdigit() and int(told) > limit:
            await _linger(request)
            raise TooLarge("invalid_argument", sentence)
        try:
            async with asyncio.timeout_at(until):
                message = await request.receive()
        except TimeoutError:
            raise RequestError(
                "deadline_exceeded", f"The request body did not arrive within {BODY_S:g} s: send it again."
            ) from None
        size += len(message.get("body", b""))
        if size > limit:
            await _linger(request)
            raise TooLarge("invalid_argument", sentence)
        return message

    return Request(request.scope, receive)


async def _linger(request: Request) -> None:
    try:
        async with asyncio.timeout(_LINGER_S):
            while (message := await request.receive())["type"] == "http.request" and message.get("more_body"):
                pass
    except TimeoutError:
        return
