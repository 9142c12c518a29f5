"""Portraits that calls can use."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import FileResponse

from orchestrator.api.dependencies import ServicesDep
from orchestrator.api.schemas import AvatarView
from orchestrator.calls.portraits import MAX_BYTES, AvatarError
from visavis.service.routes import needs

AvatarName = Annotated[str, Path(description="name of the avatar: the user part callers dial")]

router = APIRouter(prefix="/v1/avatars", tags=["avatars"])


@router.get("", summary="Portraits that calls can use")
@needs("status:read")
async def list_avatars(services: ServicesDep) -> list[AvatarView]:
    catalog = services.catalog
    return [AvatarView.of(portrait) for name in catalog.names() if (portrait := catalog.get(name))]


@router.get("/{name}", summary="The portrait's picture")
@needs("status:read")
async def get_avatar(name: AvatarName, services: ServicesDep) -> FileResponse:
    portrait = services.catalog.get(name)
    if portrait is None:
        raise _no_avatar(name)
    return FileResponse(portrait.path, media_type=portrait.media_type)


@router.put(
    "/{name}",
    summary="Upload a portrait; the body is the picture",
    description="Only of people who have agreed to it: their face will speak.",
)
@needs("avatars:write")
async def put_avatar(name: AvatarName, request: Request, services: ServicesDep) -> AvatarView:
    portrait = await services.orchestrator.put_portrait(name, await _picture(request))
    return AvatarView.of(portrait)


@router.delete("/{name}", status_code=204, summary="Erase a portrait; calls that show it keep it")
@needs("avatars:write")
async def delete_avatar(name: AvatarName, services: ServicesDep) -> None:
    if await services.orchestrator.delete_portrait(name) is None:
        raise _no_avatar(name)


def _no_avatar(name: str) -> HTTPException:
    return HTTPException(404, f"there is no avatar '{name}': GET /v1/avatars lists them")


async def _picture(request: Request) -> bytes:
    length = int(request.headers.get("content-length", "0"))
    if length > MAX_BYTES:
        raise AvatarError(f"the picture has {length} bytes: at most {MAX_BYTES} are taken")
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > MAX_BYTES:
            raise AvatarError(f"the picture has more than {MAX_BYTES} bytes: upload a smaller one")
    return bytes(data)
