"""``HTTPAvatarProvider`` against real servers: the same pictures, several servers, servers that go and come."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.avatar_client import portrait, voice
from tests.support.http import url
from tests.support.portraits import IRIS
from tests.support.servers import InferenceServer, running_server
from visavis import GrpcAvatarProvider, HTTPAvatarProvider, errors
from visavis.client.http import HttpServerClient
from visavis.roomkit.http_provider import http_addresses
from visavis.roomkit.types import VideoFrame

pytestmark = pytest.mark.usefixtures("providers_loop")

SIZE = {"width": 128, "height": 128}
IDLES = {"breath", "tilt", "sway", "turn", "glance"}
LISTENS = {"breath", "tilt", "sway", "lift"}
THINKS = {"away", "turn", "tilt", "glance"}


@asynccontextmanager
async def provider(
    *servers: InferenceServer, tmp_path: Path, **options: Any
) -> AsyncIterator[tuple[HTTPAvatarProvider, list[VideoFrame]]]:
    seen: list[VideoFrame] = []
    options = {"fps": 25, "cache_directory": tmp_path, "connect_timeout": 30.0, "timeout": 60.0} | options
    face = HTTPAvatarProvider([url(s) for s in servers], **options)
    face.on_video(seen.append)
    try:
        yield face, seen
    finally:
        await face.close()


async def until(what: Any, seconds: float = 45.0) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)


def connected(face: Any) -> bool:
    return face._session is not None and face._session._stream is not None and face._session._stream.connected


@pytest.mark.process
async def test_the_pictures_are_those_of_the_grpc_provider(tmp_path: Path) -> None:
    async with running_server(slots=2) as server:
        pictures: list[list[bytes]] = []
        options: dict[str, Any] = {"fps": 25, "is_async": False, "cache_directory": tmp_path, "timeout": 60.0}
        for face in (
            GrpcAvatarProvider(server.address, **options),
            HTTPAvatarProvider(url(server), sample_rate=16000, **options),
        ):
            await face.start(portrait(), **SIZE)
            await until(lambda face=face: connected(face))
            idle = face.get_idle_frame()
            assert idle is not None
            frames = [idle.data]
            for at in range(0, 16_000, 3200):
                pcm = voice(16_000)[at : at + 3200].tobytes()
                frames += [f.data for f in await asyncio.to_thread(face.feed_audio, pcm)]
            frames += [f.data for f in await asyncio.to_thread(face.flush)]
            await face.close()
            pictures.append(frames)
        assert len(pictures[0]) > 25 and pictures[0] == pictures[1]


@pytest.mark.process
async def test_idle_sends_nothing_and_speech_shows(tmp_path: Path) -> None:
    async with running_server(slots=2) as server, provider(server, tmp_path=tmp_path) as (face, seen):
        assert face.name == "visavis-http" and face.is_async
        await face.start(portrait(), **SIZE)
        await until(lambda: connected(face))
        idle = [face.get_idle_frame() for _ in range(20)]
        assert all(idle) and len({f.data for f in idle if f}) > 1
        still = {f.data for f in idle if f}
        await asyncio.to_thread(face.feed_audio, voice(24_000, 1).tobytes(), 24_000)
        face.end_turn()
        await until(lambda: any(f.data not in still for f in seen))
        assert (await server.event("turn_finished"))["frames"] >= 25


@pytest.mark.process
async def test_a_face_listens_nods_and_thinks_as_it_is_told(tmp_path: Path) -> None:
    async with (
        running_server(engine="portrait", slots=1) as server,
        provider(server, tmp_path=tmp_path, codec="raw_yuv420p") as (face, _),
    ):
        await face.start(IRIS.read_bytes(), **SIZE)
        session: Any = face._session
        body = session._body
        starts = [start for start, _ in body.segments]
        kinds = dict[bytes, set[str]]()  # those that show a picture; at cuts it is the same one
        for (start, kind), end in zip(body.segments, [*starts[1:], len(body)], strict=True):
            for index in range(start, end):
                kinds.setdefault(body.frame(index).tobytes(), set()).add(kind)

        def look() -> list[str]:
            """What the body does, each once in a row."""
            seen = [kinds[frame.data] for _ in range(1500) if (frame := face.get_idle_frame())]
            assert len(seen) == 1500
            return [kind for kind, _ in itertools.groupby(next(iter(k)) for k in seen if len(k) == 1)]

        assert set(look()) <= IDLES
        face.user_speaks(True)
        listens = look()[1:]  # the first one is under way
        assert len(set(listens)) > 1 and set(listens) <= LISTENS
        await asyncio.sleep(1.05)
        face.user_speaks(False)
        assert look().count("nod") == 1
        face.show_state("thinking")
        thinks = look()[1:]
        assert "away" in thinks and set(thinks) <= THINKS
        face.show_state("listening")
        assert set(look()[1:]) <= LISTENS | {"nod"}
        face.show_state(None)
        face.user_speaks(True)
        assert set(look()[1:]) <= LISTENS


@pytest.mark.process
async def test_the_next_server_is_taken_when_one_is_killed(tmp_path: Path) -> None:
    async with (
        running_server(slots=2) as a,
        running_server(slots=2) as b,
        provider(a, b, tmp_path=tmp_path) as (face, seen),
    ):
        await face.start(portrait(), **SIZE)
        await until(lambda: connected(face))
        session: Any = face._session
        await asyncio.to_thread(face.feed_audio, voice(160_000).tobytes())
        await until(lambda: session._playout.stats.shown > 10)
        victim, other = (a, b) if session._stream.address == url(a) else (b, a)
        victim.kill()
        await until(lambda: session._stream.address == url(other))
        shown = session._playout.stats.shown
        await until(lambda: session._playout.stats.shown > shown + 10)
        assert len(seen) > 20


@pytest.mark.process
async def test_the_only_server_comes_back_and_so_do_the_lips(tmp_path: Path) -> None:
    async with (
        running_server(slots=2, cache_dir=tmp_path / "server") as server,
        provider(server, tmp_path=tmp_path / "bodies") as (face, seen),
    ):
        await face.start(portrait(), **SIZE)
        await until(lambda: connected(face))
        session: Any = face._session
        await asyncio.to_thread(face.feed_audio, voice(16_000 * 60).tobytes())
        await until(lambda: session._playout.stats.shown > 10)
        server.kill()
        await until(lambda: not session._stream.connected)
        count = len(seen)
        await until(lambda: len(seen) > count + 3)  # the picture goes on
        again = {"http_port": server.http_port, "cache_dir": tmp_path / "server"}
        async with running_server(slots=2, **again):
            await until(lambda: session._stream.connected)
            shown = session._playout.stats.shown
            await until(lambda: session._playout.stats.shown > shown + 10)


@pytest.mark.process
async def test_errors_are_those_of_the_library(tmp_path: Path) -> None:
    async with running_server(slots=2) as server:
        async with provider(server, tmp_path=tmp_path) as (face, _):
            with pytest.raises(errors.InvalidRequest, match="picture"):
                await face.start(b"text")
            assert not face.is_started
        client = HttpServerClient(url(server))
        with pytest.raises(errors.AvatarUnknown, match="not prepared"):
            await client.export_avatar("nobody")
        from visavis.client.messages import Open

        with pytest.raises(errors.AvatarUnknown, match="not prepared"):
            await client.converse(Open("nobody"), 10.0)
        await client.close()
    gone = HttpServerClient(url(server))
    with pytest.raises(errors.ServerUnavailable, match="cannot be used now"):
        await gone.capabilities()
    with pytest.raises(errors.ServerUnavailable, match="cannot be used now"):
        await gone.converse(Open("nobody"), 10.0)
    await gone.close()
    async with provider(server, tmp_path=tmp_path, connect_timeout=0.1) as (face, _):
        await face.start(portrait(), **SIZE)
        assert face.is_started and not face.is_ready and face.get_idle_frame() is None
        assert face.feed_audio(np.zeros(160, "<i2").tobytes()) == []


def test_addresses_are_read_or_refused() -> None:
    assert http_addresses("http://a:1/, https://b,dns:///c:3, d:8500") == [
        "http://a:1",
        "https://b",
        "dns:///c:3",
        "d:8500",
    ]
    for bad in ("grpc://a:1", "ftp://a", "http://", "http://a?x=1", "", []):
        with pytest.raises(ValueError, match=r"write a URL|by its URL"):
            http_addresses(bad)
