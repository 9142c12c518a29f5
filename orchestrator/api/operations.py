"""What those who run the orchestrator ask: health, readiness, status, metrics."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from orchestrator.api.console import page
from orchestrator.api.dependencies import ServicesDep
from orchestrator.api.schemas import Readiness
from orchestrator.status import Status
from visavis.service.routes import needs, public

probes = APIRouter(tags=["health"])
router = APIRouter(tags=["health"])


INDEX = """Visavis orchestrator {version}

/              the console, in a browser
/docs          this API, route by route
/v1/status     whether calls get a talking face, and what is missing
/v1/calls      calls under way
/v1/avatars    faces
/healthz  /readyz  /metrics
"""


@router.get("/", include_in_schema=False)
@public
async def index(request: Request) -> Response:
    """The console for browsers, a few lines for whoever asks by hand."""
    if "text/html" in request.headers.get("accept", ""):
        return page("index.html")
    return PlainTextResponse(INDEX.format(version=request.app.version))


@probes.get("/healthz", summary="The process lives and its loops turn")
@public
async def healthz(services: ServicesDep) -> JSONResponse:
    problem = services.orchestrator.desk.not_alive()
    return JSONResponse({"status": problem or "ok"}, 503 if problem else 200)


@probes.get("/readyz", summary="It can take a call", response_model=Readiness)
@public
async def readyz(services: ServicesDep) -> JSONResponse:
    missing = services.orchestrator.desk.not_ready()
    body = Readiness(ready=not missing, missing=missing)
    return JSONResponse(body.model_dump(), 503 if missing else 200)


@router.get(
    "/v1/status", summary="Everything there is to know: whether a call gets a talking face, and why not"
)
@needs("status:read")
async def status(services: ServicesDep) -> Status:
    return await services.orchestrator.desk.status()


@probes.get("/metrics", summary="Prometheus metrics")
@public
async def metrics(services: ServicesDep) -> Response:
    return Response(generate_latest(services.registry), media_type=CONTENT_TYPE_LATEST)
