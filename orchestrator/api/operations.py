"""What those who run the orchestrator ask: health, readiness, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from orchestrator.api.dependencies import ServicesDep
from orchestrator.api.schemas import Readiness

router = APIRouter(tags=["health"])


@router.get("/healthz", summary="The process lives")
async def healthz() -> dict[str, str]:
    return {"status": "ok"}


@router.get("/readyz", summary="Calls get a talking face", response_model=Readiness)
async def readyz(services: ServicesDep) -> JSONResponse:
    missing = services.orchestrator.missing()
    body = Readiness(ready=not missing, missing=missing)
    return JSONResponse(body.model_dump(), 503 if missing else 200)


@router.get("/metrics", summary="Prometheus metrics")
async def metrics(services: ServicesDep) -> Response:
    return Response(generate_latest(services.registry), media_type=CONTENT_TYPE_LATEST)
