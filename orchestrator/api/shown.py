"""Lists that always answer: what cannot be shown is named, and the rest is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from fastapi import Response
from pydantic import BaseModel

from orchestrator.api.schemas import NotShown
from visavis.service.logs import Log

log = Log(__name__)
T = TypeVar("T")


def shown(view: Callable[[T], BaseModel], item: T, call_id: str) -> bytes:
    """One call or record as JSON, or :class:`NotShown` in its place."""
    try:
        return view(item).model_dump_json().encode()
    except ValueError as error:
        log.exception("not_shown", error, call=call_id)
        reason = "it holds something that is no JSON: the log says what"
        return NotShown(call_id=call_id, not_shown=reason).model_dump_json().encode()


def json_list(parts: Iterable[bytes]) -> Response:
    """These JSON texts as a list."""
    return Response(b"[" + b",".join(parts) + b"]", media_type="application/json")


def json_object(part: bytes) -> Response:
    """This JSON text."""
    return Response(part, media_type="application/json")
