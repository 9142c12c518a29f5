"""What the routes of a FastAPI application need, in the code, at the gate and in its OpenAPI document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.responses import FileResponse, JSONResponse
from fastapi.routing import iter_route_contexts

from visavis.service.gate import Rule

E = TypeVar("E", bound=Callable[..., Any])

SCHEME = "token"
_SCOPE = "__visavis_scope__"
_PAGES = Path(__file__).parent / "swagger"
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def needs(scope: str) -> Callable[[E], E]:
    """Marks an endpoint, below its route's decorator: a request needs a token with this scope."""

    def mark(endpoint: E) -> E:
        setattr(endpoint, _SCOPE, scope)
        return endpoint

    return mark


def public(endpoint: E) -> E:
    """Marks an endpoint that everybody may ask: probes, metrics, files without anything secret in them."""
    setattr(endpoint, _SCOPE, "")
    return endpoint


def rules_of(app: FastAPI) -> list[Rule]:
    """A rule for each route of an application. Raises ``TypeError`` where one does not say what it needs."""
    rules = []
    for route in iter_route_contexts(app.routes):
        scope = getattr(route.endpoint, _SCOPE, None)
        if scope is None:
            raise TypeError(f"the route {route.path} does not say what it needs: mark its endpoint")
        rules.append(Rule(route.path_regex, frozenset(route.methods) if route.methods else None, scope))
    return rules


def tell_security(app: FastAPI) -> None:
    """Say in the OpenAPI document what each route needs."""
    schema = app.openapi

    def openapi() -> dict[str, Any]:
        document = schema()
        schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
        schemes[SCHEME] = {
            "type": "http",
            "scheme": "bearer",
            "description": "what `visavis-token` prints; each operation names the scope that it needs",
        }
        for route in iter_route_contexts(app.routes):
            operations = document["paths"].get(route.path_format, {})
            scope = getattr(route.endpoint, _SCOPE)
            for method in route.methods or ():
                if method.lower() in operations:
                    operations[method.lower()]["security"] = [{SCHEME: [scope]}] if scope else []
        return document

    app.openapi = openapi  # type: ignore[method-assign]


def add_docs(app: FastAPI) -> None:
    """The OpenAPI document and the page that shows it, from our own files: nothing is fetched from elsewhere."""

    @app.get("/openapi.json", include_in_schema=False)
    @public
    async def openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    @app.get("/docs", include_in_schema=False)
    @public
    async def docs() -> FileResponse:
        return FileResponse(_PAGES / "index.html", headers={"Content-Security-Policy": _POLICY})

    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "start.js"):
        app.add_api_route(f"/docs/{name}", _file(_PAGES / name), include_in_schema=False)


def _file(path: Path) -> Callable[[], Any]:
    @public
    async def file() -> FileResponse:
        return FileResponse(path, headers={"Cache-Control": "max-age=3600"})

    return file
