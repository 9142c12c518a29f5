"""A body on its way to a client: each picture once for who understands that, all of them for who does not."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from inference_server.engines.base import BodyLoop
from inference_server.frontends.http import body as http_body
from tests.support.avatar_client import connect, prepare
from tests.support.http import client
from tests.support.portraits import IRIS
from tests.support.servers import running_server
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client import wire
from visavis.client.body_cache import BodyCache
from visavis.client.grpc import GrpcServerClient
from visavis.client.http import HttpServerClient
from visavis.client.model import Avatar
from visavis.errors import BodyCorrupt
from visavis.frames import PICTURES_ONCE, SharedFrames, first_shown

SIZE = 96
BYTES = SIZE * SIZE * 3 // 2


@pytest.mark.process
async def test_each_picture_of_a_portrait_is_sent_once_where_the_client_asks_for_that(tmp_path: Path) -> None:
    async with (
        running_server(engine="portrait") as server,
        connect(server.address) as stub,
        client(server) as http,
    ):
        made = await prepare(stub, IRIS.read_bytes(), width=SIZE, height=SIZE)
        avatar: Avatar = wire.avatar_from(made)

        async def fetched(**fields: Any) -> list[pb.BodyFrame]:
            return [f async for f in stub.FetchBody(pb.FetchBodyRequest(avatar_id=made.avatar_id, **fields))]

        before, once = await fetched(), await fetched(pictures_once=True)
        assert [f.loop_index for f in once] == [f.loop_index for f in before] == [*range(made.loop_length)]
        assert hashlib.sha256(b"".join(f.pixels for f in before)).digest() == made.body_sha256
        assert not any(f.HasField("same_as") for f in before)
        assert sum(bool(f.pixels) for f in once) < 0.7 * made.loop_length
        for frame, whole in zip(once, before, strict=True):
            assert frame.HasField("same_as") != bool(frame.pixels)
            assert frame.pixels == whole.pixels or before[frame.same_as].pixels == whole.pixels
            assert not frame.HasField("same_as") or frame.same_as < frame.loop_index
        assert once[0].avatar == before[0].avatar == made

        where = f"/v1/avatars/{made.avatar_id}/body"
        whole, short = await http.get(where), await http.get(where, headers={"Accept": PICTURES_ONCE})
        assert whole.content == b"".join(f.pixels for f in before)
        order = np.frombuffer(short.content[: 4 * made.loop_length], "<u4").tolist()
        assert order == [f.same_as if f.HasField("same_as") else f.loop_index for f in once]
        assert short.content[4 * made.loop_length :] == b"".join(f.pixels for f in once)
        assert short.headers["content-type"] == PICTURES_ONCE and short.headers["vary"] == "Accept"
        assert short.headers["etag"] != whole.headers["etag"]
        asked = {"Accept": PICTURES_ONCE, "If-None-Match": short.headers["etag"]}
        assert (await http.get(where, headers=asked)).status_code == 304

        grpc, over_http = GrpcServerClient(server.address), HttpServerClient(f"127.0.0.1:{server.http_port}")
        for name, one in (("grpc", grpc), ("http", over_http)):
            body = await one.fetch_body(avatar, BodyCache(tmp_path / name))
            assert isinstance(body.frames, SharedFrames)
            assert np.asarray(body.frames).tobytes() == whole.content
            await one.close()


@pytest.mark.parametrize(
    "accept, once",
    [
        (f"{PICTURES_ONCE}, */*;q=0.5", True),
        (f"text/html, {PICTURES_ONCE.upper()} ; q=0.2", True),
        (f"{PICTURES_ONCE};q=high", True),
        (f"*/*, {PICTURES_ONCE};q=0", False),
        (f"*/*, {PICTURES_ONCE}; Q=0.000", False),
        (f"{PICTURES_ONCE}+zip", False),
        (f"application/octet-stream;of={PICTURES_ONCE}", False),
        ("*/*", False),
        ("", False),
        (",;q=,;;", False),
    ],
)
def test_pictures_come_once_to_who_says_so(accept: str, once: bool) -> None:
    pictures, still = np.zeros((1, 6, 4), np.uint8), np.zeros((1, 2, 3), np.float32)
    told = "anna", 4, 4, Fraction(25), SharedFrames(pictures, np.array([0, 0])), still, still, pictures, ()
    sent = http_body.answer(BodyLoop(*told, bytes(32)), accept, "")
    assert (sent.media_type == PICTURES_ONCE) is once
    assert int(sent.headers["content-length"]) == (8 + 24 if once else 2 * 24)


def test_frames_that_share_no_pictures_are_each_their_own() -> None:
    pictures = np.zeros((3, 6, 4), np.uint8)
    assert first_shown(pictures) == [0, 1, 2]
    assert first_shown(SharedFrames(pictures, np.array([2, 0, 1, 0, 2]))) == [0, 1, 2, 1, 0]


# --- over HTTP, from servers of every kind --------------------------------------------------------------------

PICTURES = [bytes([k + 1]) * BYTES for k in range(3)]
ORDER = [0, 1, 2, 1]
LOOP = b"".join(PICTURES[k] for k in ORDER)
AVATAR = Avatar("anna", "body", hashlib.sha256(LOOP).digest(), SIZE, SIZE, Fraction(25), len(ORDER))
HEAD = np.array(ORDER, "<u4").tobytes()


async def fetched_from(content: bytes, kind: str, cache: BodyCache) -> Any:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=content, headers={"Content-Type": kind})

    http = HttpServerClient("http://server")
    await http.close()
    http._http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://server")
    try:
        return await http.fetch_body(AVATAR, cache)
    finally:
        await http.close()
        assert [request.headers["accept"].split(",")[0] for request in asked] == [PICTURES_ONCE]


@pytest.mark.parametrize("before", [False, True])
async def test_a_body_comes_from_a_server_of_either_version(before: bool, tmp_path: Path) -> None:
    content, kind = (
        (LOOP, "application/octet-stream") if before else (HEAD + b"".join(PICTURES), PICTURES_ONCE)
    )
    body = await fetched_from(content, kind, BodyCache(tmp_path))
    assert np.asarray(body.frames).tobytes() == LOOP and len(body.frames.pictures) == 3


@pytest.mark.parametrize(
    "content",
    [
        b"",
        HEAD[:-1],
        HEAD,
        HEAD + b"".join(PICTURES)[:-1],
        HEAD + b"".join(PICTURES) + PICTURES[0],
        np.array([0, 1, 2, 3], "<u4").tobytes() + b"".join(PICTURES),
        np.array([1, 1, 2, 1], "<u4").tobytes() + b"".join(PICTURES),
        b"\xff" * len(HEAD) + b"".join(PICTURES),
    ],
)
async def test_what_is_no_body_is_told(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(BodyCorrupt):
        await fetched_from(content, PICTURES_ONCE, BodyCache(tmp_path))
    assert not list(tmp_path.iterdir())
