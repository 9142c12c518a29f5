"""The file of an upload: the request's body itself, or a part of a form."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from fastapi import Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException

from inference_server.errors import invalid
from inference_server.frontends.http.problems import limited
from inference_server.settings import MIB, Settings
from inference_server.uploads import Upload, Uploads

PIECE = 256 << 10

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        name: {"type": "string", "format": "binary"} for name in ("image", "video")
                    },
                }
            },
            "image/*": {"schema": {"type": "string", "format": "binary"}},
            "video/*": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""Of ``POST /v1/avatars``, in OpenAPI's terms."""


async def upload(request: Request, limits: Settings, uploads: Uploads) -> tuple[Upload, bool]:
    """The file, whichever way it came, and whether it is a video."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        most = max(limits.image_bytes, limits.video_bytes)
        try:
            form = await limited(request, most + MIB, "The upload").form(max_files=1, max_fields=8)
        except MultiPartException as error:
            raise invalid(
                f"The form cannot be read ({error.message}): send one part, image or video."
            ) from None
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(form.close)
            for name in ("image", "video"):
                part = form.get(name)
                if isinstance(part, UploadFile):
                    return await uploads.keep(_pieces(part)), name == "video"
            raise invalid(
                "The form has no file named image or video: send a JPEG, PNG or WebP file as image, or an "
                "MP4, MOV or WebM file as video."
            )
    video = kind.startswith("video/")
    most, what = (limits.video_bytes, "The video") if video else (limits.image_bytes, "The image")
    return await uploads.keep(limited(request, most, what).stream()), video


async def _pieces(part: UploadFile) -> AsyncIterator[bytes]:
    while piece := await part.read(PIECE):
        yield piece
