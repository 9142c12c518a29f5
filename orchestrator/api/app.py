"""The control API: calls, avatars, events, records, health, metrics."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI

from orchestrator.api import avatars, calls, conversations, events, operations, recordings, records, view, web
from orchestrator.api.console import add_console
from orchestrator.api.dependencies import Services
from orchestrator.api.problems import install_problems
from orchestrator.api.schemas import Problem
from visavis.service.gate import Gate
from visavis.service.routes import add_docs, rules_of, tell_security
from visavis.service.security import Guard


def create_app(
    services: Services,
    version: str,
    guard: Guard,
    *,
    hosts: Sequence[str] = (),
    origins: Sequence[str] = (),
    probes: bool = True,
) -> FastAPI:
    """The FastAPI application over a running orchestrator, behind a gate: see :class:`Gate`.

    ``probes``: it answers probes and ``/metrics``, too.
    """
    app = FastAPI(
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        title="Visavis orchestrator",
        version=version,
        summary="Calls with a talking face: who is on the phone, what the face says, which face it is.",
        responses={"4XX": {"model": Problem}},
    )
    app.state.services = services
    install_problems(app)
    for noun in (records, recordings, operations, calls, conversations, events, avatars, view, web):
        app.include_router(noun.router)
    if probes:
        app.include_router(operations.probes)
    add_docs(app)
    add_console(app)
    tell_security(app)
    app.add_middleware(Gate, guard=guard, rules=rules_of(app), hosts=hosts, origins=origins)
    return app


def create_probes(services: Services) -> FastAPI:
    """Probes and metrics alone, for a port of their own: nothing there needs a token."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    app.state.services = services
    app.include_router(operations.probes)
    return app
