"""The body of an avatar as one download: every picture, or each of them once."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import numpy as np
from fastapi import Response
from fastapi.responses import StreamingResponse

from inference_server.engines.base import BodyLoop
from visavis.frames import PICTURES_ONCE, first_shown


def answer(loop: BodyLoop, accept: str, if_none_match: str) -> Response:
    """I420 pictures with nothing between them. Who accepts :data:`PICTURES_ONCE` gets, before them, for each loop
    index the first one that shows the same picture (u32, little-endian), and then only those first ones."""
    once = _accepts_once(accept)
    tag = f'"{loop.sha256.hex()}{"-once" if once else ""}"'
    headers = {"ETag": tag, "Cache-Control": "private, max-age=31536000, immutable", "Vary": "Accept"}
    if tag in if_none_match or if_none_match.strip() == "*":
        return Response(status_code=304, headers=headers)
    first = first_shown(loop.frames)
    sent = [index for index in range(len(loop)) if not once or first[index] == index]
    head = np.array(first, "<u4").tobytes() if once else b""
    headers["Content-Length"] = str(len(head) + len(sent) * loop.frame(0).nbytes)

    async def pieces() -> AsyncIterator[bytes]:
        if head:
            yield head
        for index in sent:
            yield loop.frame(index).tobytes()

    return StreamingResponse(
        pieces(), headers=headers, media_type=PICTURES_ONCE if once else "application/octet-stream"
    )


def _accepts_once(accept: str) -> bool:
    """By name: ranges like ``*/*`` mean those who know no such media type (RFC 9110, section 12.5.1)."""
    for asked in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in asked.split(";"))
        if kind == PICTURES_ONCE:
            return not any(re.fullmatch(r"q=0(\.0*)?", parameter) for parameter in parameters)
    return False
