"""Who may call what on the inference server: tables made of the contract and of the application's own routes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import grpc
import httpx
import pytest
import websockets
from fastapi.routing import iter_route_contexts

from inference_server.frontends.access import SERVICE_SCOPES, make_guard, scope_of
from inference_server.frontends.http.app import make_app
from tests.contract.samples import Server
from tests.support.avatar_client import portrait
from tests.support.credentials import FLEET_TOKEN, token_of
from tests.support.servers import InferenceServer, running_server
from visavis import AccessDenied, AvatarClient, HttpServerClient, ServerFull, ServerPool
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1.contract import Open
from visavis.service.gate import Gate
from visavis.service.routes import rules_of
from visavis.service.security import FLEET_SCOPES

METHODS = pb.DESCRIPTOR.services_by_name["AvatarService"].methods
OPEN = {"/", "/healthz", "/readyz", "/metrics", "/openapi.json"}
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)


def test_every_method_of_the_contract_has_a_scope() -> None:
    assert {method.name for method in METHODS} == set(SERVICE_SCOPES)
    assert scope_of("/visavis.avatar.v1.AvatarService/NewOne") is None
    assert scope_of("/grpc.health.v1.Health/Check") == ""
    assert scope_of("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo") == "stream"


async def outcome(channel: grpc.aio.Channel, method: Any, *authorization: str) -> tuple[grpc.StatusCode, str]:
    """How a call with these ``authorization`` headers ends, or ``OK`` once it is under way."""
    kinds = [
        "stream" if streaming else "unary" for streaming in (method.client_streaming, method.server_streaming)
    ]
    call = getattr(channel, "_".join(kinds))(
        f"/{method.containing_service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
    )
    request = getattr(pb, method.input_type.name)()

    async def requests() -> Any:
        yield request

    metadata = [("authorization", value) for value in authorization]
    going = call(requests() if method.client_streaming else request, metadata=metadata, timeout=20)
    try:
        await (anext(aiter(going), None) if method.server_streaming else going)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    finally:
        going.cancel()
    return grpc.StatusCode.OK, ""


@pytest.mark.process
async def test_every_call_wants_its_scope() -> None:
    async with running_server() as server, grpc.aio.insecure_channel(server.address) as channel:
        for method in METHODS:
            code, sentence = await outcome(channel, method)
            assert code is grpc.StatusCode.UNAUTHENTICATED
            assert "no token" in sentence and "visavis-token fleet" in sentence and "INSECURE" in sentence
            code, sentence = await outcome(channel, method, "Bearer visavis_wrong-wrong-wrong")
            assert code is grpc.StatusCode.UNAUTHENTICATED and "not valid here" in sentence, (
                method.name,
                code,
                sentence,
            )
            twice = await outcome(channel, method, f"Bearer {FLEET_TOKEN}", "Bearer x")
            assert twice[0] is grpc.StatusCode.UNAUTHENTICATED
            for own in FLEET_SCOPES:
                code, sentence = await outcome(channel, method, f"Bearer {token_of(own)}")
                if own == SERVICE_SCOPES[method.name]:
                    assert code not in REFUSED, (method.name, own, sentence)
                else:
                    assert code is grpc.StatusCode.PERMISSION_DENIED, (method.name, own)
                    assert f"it needs the scope {SERVICE_SCOPES[method.name]}, and has {own}" in sentence
            code, _ = await outcome(channel, method, f"Bearer {FLEET_TOKEN}")
            assert code not in REFUSED


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """Stands for what the gate guards; a WebSocket is accepted."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


async def test_every_route_wants_its_scope() -> None:
    core: Any = Server(None)
    app = make_app(core, make_guard(core.settings), asyncio.Event())
    gate = Gate(behind, make_guard(core.settings), rules_of(app))
    document = app.openapi()["paths"]
    transport = httpx.ASGITransport(cast(Any, gate))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8500") as http:
        seen = set()
        for method, path in routes(app):
            operation = document.get(path, {}).get(method.lower(), {"security": []})
            scope = operation["security"][0]["token"][0] if operation["security"] else ""
            assert bool(scope) != (path in OPEN or path.startswith("/docs")), path
            where = path.replace("{avatar_id}", "anna")
            without = (await http.request(method, where)).status_code
            assert without == (401 if scope else 204), path
            for own in FLEET_SCOPES:
                headers = {"Authorization": f"Bearer {token_of(own)}"}
                status = (await http.request(method, where, headers=headers)).status_code
                assert status == (204 if own == scope or not scope else 403), (path, own)
            seen.add(scope)
        assert seen == {"", *FLEET_SCOPES}


def routes(app: Any) -> Iterator[tuple[str, str]]:
    for route in iter_route_contexts(app.routes):
        assert route.path is not None
        for method in route.methods or ():
            yield method, route.path


async def handshake(gate: Gate, path: str, *subprotocols: str, **headers: str) -> dict[str, Any]:
    """The first message that answers a WebSocket's opening."""
    told: list[Any] = []
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope: dict[str, Any] = {
        "type": "websocket",
        "path": path,
        "headers": [(b"host", b"127.0.0.1:8500"), *named],
        "subprotocols": list(subprotocols),
        "extensions": {"websocket.http.response": {}},
    }

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        told.append(message)

    await gate(scope, receive, send)
    return dict(told[0])


@pytest.mark.parametrize("path", ["/v1/converse", "/ws/stream"])
async def test_a_websocket_wants_its_scope_in_a_header_or_a_subprotocol(path: str) -> None:
    core: Any = Server(None)
    app = make_app(core, make_guard(core.settings), asyncio.Event())
    gate = Gate(behind, make_guard(core.settings), rules_of(app))
    right, wrong = token_of("stream"), token_of("server")
    assert (await handshake(gate, path))["status"] == 401
    assert (await handshake(gate, path, authorization=f"Bearer {wrong}"))["status"] == 403
    assert (await handshake(gate, path, authorization=f"Bearer {right}"))["type"] == "websocket.accept"
    assert (await handshake(gate, path, "visavis", f"visavis.token.{wrong}"))["status"] == 403
    page = await handshake(gate, path, "visavis", f"visavis.token.{right}")
    assert page == {"type": "websocket.accept", "subprotocol": "visavis"}  # and never the token
    foreign = await handshake(gate, path, authorization=f"Bearer {right}", origin="http://evil.example")
    assert foreign["status"] == 403
    assert (await handshake(gate, "/v1/nothing"))["status"] == 401


@pytest.fixture
async def guarded(tmp_path: Path) -> Any:
    """A server whose tokens are in no file that clients know."""
    path = tmp_path / "tokens"
    path.write_text("visavis_of-this-server-alone\n")
    async with running_server(tokens=path) as server:
        yield server


@pytest.mark.process
async def test_clients_say_why_they_are_refused_and_what_to_do(
    guarded: InferenceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VISAVIS_TOKEN", raising=False)
    token = "visavis_of-this-server-alone"
    url = f"http://127.0.0.1:{guarded.http_port}"
    for client in (AvatarClient(guarded.address), HttpServerClient(url)):
        with pytest.raises(AccessDenied, match="refuses this client") as refused:
            await client.capabilities()
        assert "This token is not valid here" in str(refused.value)
        assert "visavis-token fleet" in str(refused.value)
        await client.close()
    async with ServerPool(guarded.address) as pool:
        with pytest.raises(AccessDenied, match="refuses this client"):
            await pool.wait_usable(2.0)
    for client in (AvatarClient(guarded.address, token=token), HttpServerClient(url, token=token)):
        assert (await client.capabilities()).engine == "mock"
        await client.close()
    monkeypatch.setenv("VISAVIS_TOKEN", token)
    async with ServerPool(guarded.address) as pool:
        await pool.wait_usable(20.0)


@pytest.mark.process
async def test_a_token_is_replaced_without_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    old, new = "visavis_old-old-old-old", "visavis_new-new-new-new"
    path.write_text(f"{old}\n")
    async with (
        running_server(tokens=path) as server,
        AvatarClient(server.address, token=old) as before,
        AvatarClient(server.address, token=new) as after,
    ):
        await before.capabilities()
        with pytest.raises(AccessDenied):
            await after.capabilities()
        path.write_text(f"{new}\n{old}\n")
        await asyncio.sleep(0.6)
        await before.capabilities()
        await after.capabilities()
        path.write_text(f"{new}\n")
        await asyncio.sleep(0.6)
        await after.capabilities()
        with pytest.raises(AccessDenied):
            await before.capabilities()


@pytest.mark.process
async def test_clients_without_a_token_for_the_time_of_a_rollout(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    async with running_server(tokens=path, insecure=True) as server:
        said = await server.event("exposed")
        assert "wants no credentials: every program of this machine may use it" in said["reason"]
        async with grpc.aio.insecure_channel(server.address) as channel:
            for method in METHODS:
                assert (await outcome(channel, method))[0] not in REFUSED
                assert (await outcome(channel, method, "Bearer visavis_wrong-wrong-wrong"))[0] in REFUSED
        async with httpx.AsyncClient() as http:
            metrics = (await http.get(f"http://127.0.0.1:{server.http_port}/metrics")).text
        assert f"visavis_requests_without_token {float(len(METHODS))}" in metrics


@pytest.mark.process
async def test_one_client_cannot_have_every_stream_while_another_is_here(tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    greedy, modest = "visavis_greedy-greedy-greedy", "visavis_modest-modest-modest"
    path.write_text(f"{greedy} * greedy\n{modest} * modest\n")
    async with (
        running_server(tokens=path, max_sessions=8) as server,
        AvatarClient(server.address, token=greedy) as much,
        AvatarClient(server.address, token=modest) as little,
        contextlib.AsyncExitStack() as streams,
    ):
        avatar = await much.prepare(portrait(), 128, 128)

        async def open_one(client: AvatarClient) -> None:
            link = await client.converse(Open(avatar.avatar_id), 10.0)
            streams.callback(link.cancel)

        await open_one(little)
        for _ in range(5):
            await open_one(much)
        with pytest.raises(ServerFull, match="This client has 5 of 8 streams, its share"):
            await open_one(much)
        for _ in range(2):
            await open_one(little)


@pytest.mark.process
@pytest.mark.parametrize("named", [True, False])
async def test_a_share_is_the_tokens_wherever_it_is_used_from(tmp_path: Path, *, named: bool) -> None:
    """Sockets of three addresses of this machine, with one token, or with none in the time of a rollout."""
    path = tmp_path / "tokens"
    path.write_text("visavis_greedy-greedy-greedy * greedy\nvisavis_modest-modest-modest * modest\n")
    async with running_server(tokens=path, max_sessions=8, insecure=not named) as server:
        async with AvatarClient(server.address, token="visavis_modest-modest-modest") as client:
            avatar = await client.prepare(portrait(), 128, 128)
        opening = json.dumps({"type": "open", "avatar_id": avatar.avatar_id})
        async with contextlib.AsyncExitStack() as sockets:

            async def open_one(host: str, name: str) -> dict[str, Any]:
                bearer = {"Authorization": f"Bearer visavis_{name}-{name}-{name}"}
                socket = await sockets.enter_async_context(
                    websockets.connect(
                        f"ws://127.0.0.1:{server.http_port}/v1/converse",
                        additional_headers=bearer if named else {},
                        local_addr=(host, 0),
                    )
                )
                await socket.send(opening)
                said: dict[str, Any] = json.loads(await socket.recv())
                return said

            assert (await open_one("127.0.0.9", "modest"))["type"] == "opened"
            told = [await open_one(f"127.0.0.{10 + number % 3}", "greedy") for number in range(7)]
            opened = 5 if named else 6  # one client of two has a half, one of four addresses a quarter
            assert [each["type"] for each in told] == ["opened"] * opened + ["error"] * (7 - opened)
            assert f"This client has {5 if named else 2} of 8 streams, its share" in str(told[-1])
