"""Server-sent events (WHATWG HTML, section 9.2) of JSON objects. Sans-IO but for the source of lines."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple


class Event(NamedTuple):
    """``data`` is the event's JSON object."""

    name: str
    data: dict[str, Any]


async def events(next_line: Callable[[], Awaitable[str | None]]) -> AsyncIterator[Event]:
    """Events out of lines; ``None`` ends them. What is no JSON object is passed over."""
    name, data = "message", ""
    while (line := await next_line()) is not None:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data += value
        elif not line:
            try:
                told = json.loads(data) if data else None
            except ValueError:
                told = None
            if isinstance(told, dict):
                yield Event(name, told)
            name, data = "message", ""
