"""A media worker's avatars: what the control process had prepared, and files that never hold up the clock."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from orchestrator.avatar.owner import StageFactory, make
from orchestrator.avatar.prepared import avatar_data, avatar_of
from orchestrator.media.parameters import AudioParameters
from orchestrator.worker.host import MediaHost
from orchestrator.worker.owner import CallContext, WorkerContext
from tests.support.fake_server import HEIGHT, WIDTH, FakeServer, avatar, fake_server
from tests.support.waiting import until
from visavis.client import model, wire

pytest_plugins = ["tests.support.media_fixtures"]

PICTURE = b"image of anna" + bytes(1 << 20)


@dataclass
class Place:
    factory: StageFactory
    server: FakeServer
    portrait: Path
    said: list[dict[str, Any]] = field(default_factory=list)

    def call(self, states: list[str]) -> Any:
        audio = AudioParameters("PCMU", 0, ("127.0.0.1", 9))

        def emit(name: str, data: dict[str, Any], payload: bytes) -> None:
            states.append(data["state"])

        context = CallContext("a", audio, None, SimpleNamespace(), emit, lambda reason: None)  # type: ignore[arg-type]
        options = {"portrait": str(self.portrait), "fps": "25", "trim_ms": 0}
        return self.factory.open(context, options, b"")


@pytest.fixture
async def place(host: MediaHost, tmp_path: Path) -> AsyncIterator[Place]:
    options: dict[str, Any] = {
        "nameserver": "", "cache": str(tmp_path), "cache_bytes": 1 << 20, "width": WIDTH, "height": HEIGHT,
        "fps": "25", "fit": "crop", "bitrate": 200_000,
    }  # fmt: skip
    portrait = tmp_path / "anna"
    portrait.write_bytes(PICTURE)
    factory = make()
    async with fake_server() as server:
        made = Place(factory, server, portrait)
        context = WorkerContext(
            host, lambda name, data, payload: made.said.append(data), {**options, "servers": [server.address]}
        )
        await factory.start(context)
        yield made
        await factory.close()


def test_a_prepared_avatar_crosses_to_the_workers_whole() -> None:
    made = wire.avatar_from(avatar())
    assert avatar_of(avatar_data(made)) == made


async def test_what_the_control_process_had_prepared_is_not_prepared_again(place: Place) -> None:
    told = {"portrait": str(place.portrait), "avatar": avatar_data(wire.avatar_from(avatar()))}
    place.factory.command("prepared", told, b"")
    place.factory.command("prepared", told, b"")
    await until(lambda: any(data["state"] == "ready" for data in place.said))
    assert [data["state"] for data in place.said if data["state"] != "waiting"] == [
        "preparing",
        "coding",
        "ready",
    ]
    source = model.AvatarSource(PICTURE, WIDTH, HEIGHT)
    assert {data["avatar"] for data in place.said} == {source.digest}
    states: list[str] = []
    owner = place.call(states)
    await until(lambda: "connected" in states)
    assert place.server.prepares == 0 and place.server.fetches == 1
    await owner.close()


async def test_an_avatar_that_the_server_has_lost_is_prepared(place: Place) -> None:
    place.server.known.clear()
    told = {"portrait": str(place.portrait), "avatar": avatar_data(wire.avatar_from(avatar()))}
    place.factory.command("prepared", told, b"")
    await until(lambda: any(data["state"] == "ready" for data in place.said))
    assert place.server.prepares == 1


@pytest.mark.parametrize("told", [False, True])
async def test_portraits_are_neither_read_nor_hashed_on_the_clocks_loop(
    place: Place, told: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, seen = threading.get_ident(), list[str]()
    read, sha256 = Path.read_bytes, hashlib.sha256

    def read_bytes(path: Path) -> bytes:
        if path == place.portrait:
            seen.append("read")
            assert threading.get_ident() != loop, "the portrait is read on the loop"
        return read(path)

    def hashed(data: bytes = b"", **options: Any) -> Any:
        if len(data) >= len(PICTURE):
            seen.append("hashed")
            assert threading.get_ident() != loop, "the portrait is hashed on the loop"
        return sha256(data, **options)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(hashlib, "sha256", hashed)
    if told:
        made = avatar_data(wire.avatar_from(avatar()))
        place.factory.command("prepared", {"portrait": str(place.portrait), "avatar": made}, b"")
    states: list[str] = []
    first, second = place.call(states), place.call(states)

    def both_ready() -> bool:
        for owner in (first, second):
            owner.voice.tick(0)  # a body is taken into use between two pictures
        return states.count("ready") == 2

    await until(both_ready)
    third = place.call(states)
    assert states.count("ready") == 3, "a ready avatar is taken into use at once"
    assert seen.count("read") == 1 and "hashed" in seen
    for owner in (first, second, third):
        await owner.close()


async def test_a_portrait_put_in_place_of_another_is_another_avatar(place: Place) -> None:
    states: list[str] = []
    owner = place.call(states)
    await until(lambda: place.server.prepares == 1)
    replaced = place.portrait.with_suffix(".partial")
    replaced.write_bytes(PICTURE + b"anew")
    replaced.replace(place.portrait)
    other = place.call(states)
    await until(lambda: place.server.prepares == 2)
    await asyncio.sleep(0)
    for one in (owner, other):
        await one.close()
