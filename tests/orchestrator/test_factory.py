"""A media worker's avatars: what the control process had prepared, and files that never hold up the clock."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from orchestrator.avatar.owner import CallAvatarFactory, make
from orchestrator.media.parameters import AudioParameters, VideoParameters
from orchestrator.worker.host import MediaHost
from orchestrator.worker.messages import (
    AvatarPrepared,
    AvatarSettings,
    AvatarState,
    Message,
    PrepareState,
    ShowState,
    StartCall,
)
from orchestrator.worker.owner import CallContext, WorkerContext
from tests.support.fake_server import HEIGHT, WIDTH, FakeServer, avatar, fake_server
from tests.support.waiting import until
from visavis.client import model, wire

pytest_plugins = ["tests.support.media_fixtures"]
pytestmark = pytest.mark.usefixtures("stills_in_this_process")

PICTURE = b"image of anna" + bytes(1 << 20)


@dataclass
class Place:
    factory: CallAvatarFactory
    server: FakeServer
    portrait: Path
    said: list[PrepareState] = field(default_factory=list)

    def call(self, states: list[str]) -> Any:
        audio = AudioParameters("PCMU", 0, ("127.0.0.1", 9))

        def send(message: Message) -> None:
            assert isinstance(message, AvatarState)
            states.append(message.state)

        context = CallContext("a", audio, None, send)
        return self.factory.open(context, StartCall("a", str(self.portrait)))

    def prepared(self) -> None:
        """The control process tells of the avatar that it had prepared."""
        self.factory.take(AvatarPrepared(str(self.portrait), wire.avatar_from(avatar())))

    def hear(self, message: Message) -> None:
        assert isinstance(message, PrepareState)
        self.said.append(message)


@pytest.fixture
async def place(host: MediaHost, tmp_path: Path) -> AsyncIterator[Place]:
    portrait = tmp_path / "anna"
    portrait.write_bytes(PICTURE)
    factory = make()
    async with fake_server() as server:
        made = Place(factory, server, portrait)
        settings = AvatarSettings(
            (server.address,), str(tmp_path), 1 << 20, WIDTH, HEIGHT, Fraction(25), 200_000
        )
        await factory.start(WorkerContext(host, made.hear, settings))
        yield made
        await factory.close()


async def test_what_the_control_process_had_prepared_is_not_prepared_again(place: Place) -> None:
    place.prepared()
    place.prepared()
    await until(lambda: any(said.state == "ready" for said in place.said))
    assert [said.state for said in place.said if said.state != "waiting"] == [
        "preparing",
        "coding",
        "ready",
    ]
    source = model.AvatarSource(PICTURE, WIDTH, HEIGHT)
    assert {said.digest for said in place.said} == {source.digest}
    states: list[str] = []
    owner = place.call(states)
    await until(lambda: "connected" in states)
    assert place.server.prepares == 0 and place.server.fetches == 1
    await owner.close()


async def test_the_loop_that_is_coded_ahead_has_the_mark(place: Place, host: MediaHost) -> None:
    assert place.factory._settings is not None
    place.factory._settings = replace(place.factory._settings, mark="AI")
    place.prepared()
    await until(lambda: any(said.state == "ready" for said in place.said))
    assert [key.encoding.mark for key in host.idle._loops] == ["AI"]


async def test_an_avatar_that_the_server_has_lost_is_prepared(place: Place) -> None:
    place.server.known.clear()
    place.prepared()
    await until(lambda: any(said.state == "ready" for said in place.said))
    assert place.server.prepares == 1


async def test_a_face_that_is_seen_listens(place: Place) -> None:
    owner = place.call([])
    assert not owner.hearing.listens
    audio = AudioParameters("PCMU", 0, ("127.0.0.1", 9))
    video = VideoParameters(96, ("127.0.0.1", 9), WIDTH, HEIGHT, fps=Fraction(25))
    owner.configured(audio, video)
    assert owner.hearing.listens
    owner.take(ShowState("a", "thinking"))
    assert owner.hearing.state() == "thinking"
    owner.configured(audio, None)
    assert not owner.hearing.listens
    await owner.close()


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
        place.prepared()
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
