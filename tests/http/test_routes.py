"""The routes of the HTTP face against a real server: what they give, and what they say to bad input."""

from __future__ import annotations

import asyncio
import hashlib
import json
from typing import Any

import httpx
import numpy as np
import pytest

from tests.support.avatar_client import connect, portrait, prepare
from tests.support.http import client
from tests.support.servers import running_server
from visavis.client.body_cache import BodyCache
from visavis.client.http import HttpServerClient, server_sent_events
from visavis.client.model import AvatarSource

pytestmark = pytest.mark.process

SIZE = {"width": 320, "height": 240}


def refused(answer: httpx.Response, status: int, kind: str) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert (answer.status_code, body["status"], body["kind"]) == (status, status, kind), body
    assert body["title"] and body["type"] == "about:blank"
    return str(body["detail"])


async def test_an_avatar_is_prepared_described_and_downloaded() -> None:
    async with running_server(slots=2) as server, client(server) as http, connect(server.address) as stub:
        told = (await http.post("/v1/avatars", params=SIZE, content=portrait())).json()
        same = await http.post("/v1/avatars", params=SIZE, files={"image": ("a.png", portrait())})
        assert same.json() == told and same.headers["location"] == f"/v1/avatars/{told['avatar_id']}"
        assert (told["width"], told["height"], told["fps"]) == (320, 240, "25")
        over_grpc = await prepare(stub, portrait(), **SIZE)
        assert told["avatar_id"] == over_grpc.avatar_id and told["body_id"] == over_grpc.body_id
        assert bytes.fromhex(told["body_sha256"]) == over_grpc.body_sha256
        assert told["jumps"] == [[getattr(j, "from"), j.to] for j in over_grpc.jumps]

        where = f"/v1/avatars/{told['avatar_id']}"
        assert (await http.get(where)).json() == told
        body = await http.get(f"{where}/body")
        assert hashlib.sha256(body.content).hexdigest() == told["body_sha256"]
        assert len(body.content) == 320 * 240 * 3 // 2 * told["loop_length"]
        assert body.headers["etag"] == f'"{told["body_sha256"]}"'
        again = await http.get(f"{where}/body", headers={"If-None-Match": body.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")

        other = await http.post("/v1/avatars", params={**SIZE, "fps": "30000/1001"}, content=portrait())
        assert other.json()["fps"] == "30000/1001"
        steps = await http.post(
            "/v1/avatars", params=SIZE, content=portrait(7), headers={"Accept": "text/event-stream"}
        )
        lines = iter([*steps.text.split("\n"), None])
        found = [e async for e in server_sent_events(lambda: asyncio.sleep(0, next(lines)))]
        assert [e.name for e in found][-1] == "avatar" and found[-1].data["loop_length"] > 0
        assert [e.data["progress"] for e in found[:-1]] == sorted(e.data["progress"] for e in found[:-1])

        bundle = (await http.get(f"{where}/bundle")).content
        async with running_server(slots=2) as second, client(second) as elsewhere:
            assert refused(await elsewhere.get(where), 404, "not_found")
            assert (await elsewhere.post("/v1/bundles", content=bundle)).json() == told
            assert "damaged" in refused(
                await elsewhere.post("/v1/bundles", content=bundle[:-9]), 400, "invalid_argument"
            )


async def test_what_the_server_is_and_how_busy() -> None:
    async with running_server(slots=3) as server, client(server) as http:
        about = (await http.get("/v1/capabilities")).json()
        assert (about["engine"], about["ready"], about["speaking_slots"]) == ("mock", True, 3)
        assert about["limits"]["window_ms"] == 400 and about["limits"]["connections"] == 1024
        assert (await http.get("/v1/capacity")).json()["speaking_slots_free"] == 3
        assert (await http.get("/healthz")).json() == {"status": "ok"}
        named = [line.split() for line in (await http.get("/")).text.splitlines() if line.startswith("/")]
        assert {path for path, *_ in named} >= {"/docs", "/v1/capabilities"}
        for path, *_ in named:
            assert (await http.get(path)).status_code == 200, path
        assert (await http.get("/readyz")).json() == {"status": "ready"}
        assert "visavis_engine_ready 1.0" in (await http.get("/metrics")).text
        document = (await http.get("/openapi.json")).json()
        for path in ("/v1/avatars", "/v1/avatars/{avatar_id}/body", "/v1/capacity", "/start", "/idle_frame"):
            assert path in document["paths"]
        operation = document["paths"]["/v1/avatars"]["post"]
        assert "multipart/form-data" in operation["requestBody"]["content"]
        assert "application/problem+json" in operation["responses"]["default"]["content"]
        assert "kind" in document["components"]["schemas"]["Problem"]["properties"]

        watching = HttpServerClient(f"http://127.0.0.1:{server.http_port}")
        news = watching.watch_capacity()
        assert (await anext(news)).avatar_ids == frozenset()
        avatar = await watching.prepare_source(AvatarSource(portrait(), 320, 240))
        assert (await anext(news)).avatar_ids == {avatar.avatar_id}
        await watching.close()


async def test_a_server_that_is_not_ready_says_so() -> None:
    settings: dict[str, Any] = {"load_ms": 600_000}
    async with (
        running_server(engine_settings=settings, ready=False) as server,
        client(server) as http,
    ):
        assert (await http.get("/healthz")).status_code == 200
        answer = await http.get("/readyz")
        assert refused(answer, 503, "unavailable") and answer.headers["retry-after"] == "1"
        assert refused(await http.post("/v1/avatars", content=portrait()), 503, "unavailable")
        assert (await http.get("/v1/capabilities")).json()["not_ready_reason"]


async def test_bad_requests_are_answered_in_one_sentence() -> None:
    async with running_server(image_bytes=100_000, image_pixels=1_000_000) as server, client(server) as http:

        async def post(content: bytes = b"", **options: Any) -> httpx.Response:
            return await http.post("/v1/avatars", content=content, **options)

        bad = "invalid_argument"
        assert "empty" in refused(await post(), 400, bad)
        assert refused(await post(b"\x00\xff noise" * 100), 400, bad)
        assert "image" in refused(await http.post("/v1/avatars", files={"photo": b"x"}), 400, bad)
        assert "image" in refused(await http.post("/v1/avatars", files={"image": (None, "text")}), 400, bad)
        form = {"Content-Type": "multipart/form-data; boundary=x"}
        assert refused(await post(b"no form at all", headers=form), 400, bad)
        assert refused(await post(b"", headers={"Content-Type": "multipart/form-data"}), 400, bad)
        assert "100000 bytes" in refused(await post(b"x" * 100_001), 413, bad)
        assert "bytes" in refused(await http.post("/v1/avatars", files={"image": b"x" * 100_001}), 400, bad)

        async def endless() -> Any:
            for _ in range(200):
                yield b"x" * 65_536

        assert "100000 bytes" in refused(await http.post("/v1/avatars", content=endless()), 413, bad)
        image = portrait()
        assert "even" in refused(await post(image, params={"width": 321}), 400, bad)
        assert "64x64" in refused(await post(image, params={"width": 100_000}), 400, bad)
        assert "width" in refused(await post(image, params={"width": "wide"}), 422, bad)
        assert "fps" in refused(await post(image, params={"fps": "1/0"}), 400, bad)
        assert "fps" in refused(await post(image, params={"fps": "1e9"}), 400, bad)
        assert "fit" in refused(await post(image, params={"fit": "stretch"}), 422, bad)
        assert "settings" in refused(await post(image, params={"settings": "[1"}), 400, bad)
        assert "prepared" in refused(await http.get("/v1/avatars/nobody"), 404, "not_found")
        assert refused(await http.get("/v1/avatars/..%2f..%2fetc/body"), 404, "not_found")
        assert refused(await http.get("/v1/nothing"), 404, "not_found")
        assert refused(await http.get("/v1/avatars"), 405, "unimplemented")
        assert refused(await http.post("/v1/bundles", content=b"noise"), 400, bad)

        reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
        writer.write(np.random.default_rng(0).bytes(500) + b"\r\n\r\n")
        answer = await asyncio.wait_for(reader.read(), 30)
        assert b" 400 " in answer and json.loads(answer.partition(b"\r\n\r\n")[2])["kind"] == bad
        writer.close()
        assert (await http.get("/healthz")).status_code == 200


async def test_connections_beyond_the_limit_are_refused_and_disturb_nobody() -> None:
    async with running_server(http_connections=20) as server, client(server) as http:
        assert (await http.get("/healthz")).status_code == 200
        opened = []
        for _ in range(19):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.http_port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: here\r\n\r\n")
            assert b" 200 " in await reader.readline()
            opened.append((reader, writer))
        opened += await asyncio.gather(
            *(asyncio.open_connection("127.0.0.1", server.http_port) for _ in range(981))
        )
        answers = await asyncio.gather(
            *(asyncio.wait_for(r.read(), 30) for r, _ in opened[19:]), return_exceptions=True
        )
        told = [a for a in answers if isinstance(a, bytes) and b" 503 " in a]
        assert len(told) >= 850 and b"20 connections" in told[0]
        assert (await http.get("/healthz")).status_code == 200  # who is in stays in
        for _, writer in opened:
            writer.close()
        async with asyncio.timeout(30):
            while True:
                try:
                    async with client(server) as later:
                        answer = await later.get("/healthz")
                        if answer.status_code == 200:
                            break
                except httpx.HTTPError:
                    pass
                await asyncio.sleep(0.05)


async def test_the_library_reads_the_same_over_http(tmp_path: Any) -> None:
    async with running_server() as server:
        http = HttpServerClient(f"127.0.0.1:{server.http_port}")
        seen: list[float] = []
        avatar = await http.prepare_source(AvatarSource(portrait(), 320, 240), seen.append)
        body = await http.fetch_body(avatar, BodyCache(tmp_path))
        assert body.sha256 == avatar.body_sha256 and len(body) == avatar.loop_length
        assert (await http.import_avatar(await http.export_avatar(avatar.avatar_id))) == avatar
        assert (await http.capabilities()).engine == "mock"
        await http.close()
