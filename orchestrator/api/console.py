"""The console: static files of ours behind a strict policy. Nothing in them is secret, and nothing is fetched from
elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import FileResponse

from visavis.service.routes import public

FOLDER = Path(__file__).resolve().parents[1] / "console"
_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".md": "text/plain",
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "media-src 'self' blob: mediastream:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Permissions-Policy": "microphone=(self), camera=(self), geolocation=()",
    "Cache-Control": "no-cache",
}


def add_console(app: FastAPI) -> None:
    """Its files below ``/console/``: those that are there now, and no path leads elsewhere."""
    router = APIRouter(include_in_schema=False)
    for path in sorted(FOLDER.rglob("*")):
        if path.suffix in _TYPES:
            name = path.relative_to(FOLDER).as_posix()
            router.add_api_route(f"/console/{name}", _file(name))
    app.include_router(router)


def page(name: str) -> FileResponse:
    """One of its files."""
    path = FOLDER / name
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=_HEADERS)


def _file(name: str) -> Callable[[], Awaitable[FileResponse]]:
    @public
    async def file() -> FileResponse:
        return page(name)

    return file
