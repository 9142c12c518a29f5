"""Who may ask the API what: a table made of its own routes, so that a new one cannot be forgotten."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import iter_route_contexts

from orchestrator.api import operations
from orchestrator.api.app import create_app, create_probes
from orchestrator.api.console import FOLDER
from tests.support.credentials import API_TOKEN, api_guard, token_of
from visavis.service.gate import Gate
from visavis.service.routes import needs, rules_of
from visavis.service.security import API_SCOPES

OPEN = {
    "/",
    "/healthz",
    "/readyz",
    "/metrics",
    "/openapi.json",
    "/docs",
    "/docs/swagger-ui-bundle.js",
    "/docs/swagger-ui.css",
    "/docs/start.js",
    *(f"/console/{path.relative_to(FOLDER)}" for path in FOLDER.rglob("*.*")),
}
HOST = "http://127.0.0.1:8080"


def api(folder: Path, **options: Any) -> FastAPI:
    return create_app(cast(Any, None), "0", api_guard(folder), **options)


def routes(app: FastAPI) -> Iterator[tuple[str, str]]:
    for route in iter_route_contexts(app.routes):
        assert route.path is not None
        for method in route.methods or ():
            yield method, filled(route.path)


def filled(path: str) -> str:
    return path.replace("{call_id}", "c1").replace("{name}", "anna")


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """Stands for what the gate guards."""
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


@pytest.fixture
async def gate(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    app = Gate(behind, api_guard(tmp_path), rules_of(api(tmp_path)))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, app)), base_url=HOST) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def documented(app: FastAPI) -> dict[tuple[str, str], str]:
    """The scope of each operation, as the OpenAPI document names it; "" where it needs none."""
    return {
        (method.upper(), filled(path)): about["security"][0]["token"][0] if about["security"] else ""
        for path, methods in app.openapi()["paths"].items()
        for method, about in methods.items()
    }


async def test_every_route_wants_its_scope(tmp_path: Path, gate: httpx.AsyncClient) -> None:
    app = api(tmp_path)
    table = documented(app)
    assert {path for _, path in routes(app)} - {path for _, path in table} == {
        p for p in OPEN if "docs" in p or "console" in p
    } | {"/", "/openapi.json"}
    assert {path for (_, path), scope in table.items() if not scope} == {"/healthz", "/readyz", "/metrics"}
    for method, path in routes(app):
        scope = table.get((method, path), "")
        without = (await gate.request(method, path)).status_code
        wrong = (await gate.request(method, path, headers=bearer("visavis_wrong-wrong-wrong"))).status_code
        assert (without, wrong) == ((401, 401) if scope else (204, 204)), (method, path)
        for own in API_SCOPES:
            status = (await gate.request(method, path, headers=bearer(token_of(own)))).status_code
            assert status == (204 if own in (scope, "admin") or not scope else 403), (method, path, own)
        assert (await gate.request(method, path, headers=bearer(API_TOKEN))).status_code == 204
    assert set(table.values()) - {""} == set(API_SCOPES)


async def test_the_whole_application_is_behind_it(tmp_path: Path) -> None:
    app = api(tmp_path)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as client:
        for method, path in routes(app):
            if path in OPEN:
                continue
            answer = await client.request(method, path, content=b"{" if method in ("POST", "PUT") else None)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert "visavis-token" in answer.json()["detail"]
        for unknown in ("/v2/calls", "/v1/calls/"):
            assert (await client.get(unknown)).status_code == 401
            assert (await client.get(unknown, headers=bearer(token_of("status:read")))).status_code in (
                404,
                307,
            )


async def test_a_route_without_a_scope_does_not_start(tmp_path: Path) -> None:
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/v1/new")
    async def new() -> None: ...

    with pytest.raises(TypeError, match="/v1/new does not say what it needs"):
        rules_of(app)
    needs("calls:read")(new)
    assert [rule.scope for rule in rules_of(app)] == ["calls:read"]


async def test_probes_on_a_port_of_their_own_are_there_alone(tmp_path: Path) -> None:
    paths = {r.path for r in iter_route_contexts(create_probes(cast(Any, None)).routes)}
    assert paths == {"/healthz", "/readyz", "/metrics"}
    assert {r.path for r in operations.probes.routes} == paths  # type: ignore[attr-defined]
    assert not paths & {path for _, path in routes(api(tmp_path, probes=False))}


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/docs", "/v1/calls"])
async def test_a_rebound_name_gets_nothing(gate: httpx.AsyncClient, path: str) -> None:
    rebound = {"Host": "evil.example:8080"}
    answer = await gate.get(path, headers=rebound)
    assert answer.status_code in (401, 403)
    wrong = await gate.get(path, headers=rebound | bearer("visavis_wrong-wrong-wrong"))
    assert wrong.status_code in (401, 403)
    assert (await gate.get(path, headers=rebound | bearer(API_TOKEN))).status_code == 204  # no page has that


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9"])
@pytest.mark.parametrize("path", ["/healthz", "/v1/calls"])
async def test_a_foreign_page_gets_nothing_even_with_a_token(
    gate: httpx.AsyncClient, origin: str, path: str
) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        headers = {"Origin": origin, **bearer(API_TOKEN)}
        answer = await gate.request(method, path, headers=headers)
        assert answer.status_code == 403 and "may not use this service" in answer.json()["detail"]
        assert "access-control-allow-origin" not in answer.headers


async def test_names_and_origins_that_were_configured(tmp_path: Path) -> None:
    options = {"hosts": ["calls.example.com"], "origins": ["https://app.example.com"]}
    app = Gate(behind, api_guard(tmp_path), rules_of(api(tmp_path)), **cast(Any, options))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(cast(Any, app)), base_url=HOST) as client:
        assert (await client.get("/healthz", headers={"Host": "calls.example.com"})).status_code == 204
        headers = {"Origin": "https://app.example.com", **bearer(API_TOKEN)}
        assert (await client.get("/v1/calls", headers=headers)).status_code == 204


async def test_browsers_are_told_to_keep_it_to_themselves(gate: httpx.AsyncClient) -> None:
    for path in ("/healthz", "/v1/calls"):
        headers = (await gate.get(path)).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["cross-origin-resource-policy"] == "same-origin"


async def test_the_console_is_a_page_of_ours_behind_a_strict_policy(tmp_path: Path) -> None:
    app = api(tmp_path)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as client:
        page = await client.get("/", headers={"Accept": "text/html"})
        assert page.headers["content-type"].startswith("text/html")
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert (
            (await client.get("/", headers={"Accept": "*/*"}))
            .headers["content-type"]
            .startswith("text/plain")
        )
        assert (await client.get("/console/../config.py")).status_code in (401, 404)


def test_what_the_console_has_of_others_is_unchanged() -> None:
    notice = (FOLDER / "vendor/NOTICE.md").read_text()
    assert hashlib.sha256((FOLDER / "vendor/htm-preact.js").read_bytes()).hexdigest() in notice


async def test_the_docs_come_from_here_alone(tmp_path: Path) -> None:
    app = api(tmp_path)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=HOST) as client:
        page = await client.get("/docs")
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert "http" not in page.text.replace("<!DOCTYPE html>", "")
        for path in OPEN - {"/healthz", "/readyz", "/metrics"}:
            assert (await client.get(path)).status_code == 200
        document = (await client.get("/openapi.json")).json()
        assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
        assert document["paths"]["/v1/calls"]["post"]["security"] == [{"token": ["calls:dial"]}]
        assert document["paths"]["/healthz"]["get"]["security"] == []
