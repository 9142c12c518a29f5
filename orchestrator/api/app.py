"""The control API: calls, avatars, events, records, health, metrics."""

from __future__ import annotations

from fastapi import FastAPI

from orchestrator.api import avatars, calls, events, operations, records
from orchestrator.api.dependencies import Services
from orchestrator.api.problems import install_problems
from orchestrator.api.schemas import Problem


def create_app(services: Services, version: str) -> FastAPI:
    """The FastAPI application over a running orchestrator."""
    app = FastAPI(
        title="Visavis orchestrator",
        version=version,
        summary="Calls with a talking face: who is on the phone, what the face says, which face it is.",
        responses={"4XX": {"model": Problem}},
    )
    app.state.services = services
    install_problems(app)
    for noun in (records, operations, calls, events, avatars):
        app.include_router(noun.router)
    return app
