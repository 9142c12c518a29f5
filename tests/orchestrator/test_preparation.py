"""Portraits made into avatars once, by the control process; what the status tells of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from orchestrator.archive.archive import ArchiveStatus
from orchestrator.calls import preparation as preparation_module
from orchestrator.calls.portraits import DEFAULT, AvatarCatalog, AvatarError, Portrait
from orchestrator.calls.preparation import PortraitPreparation, PortraitShape
from orchestrator.speech.base import VoiceByLanguage
from orchestrator.status import Status, StatusDesk
from tests.support.fake_server import HEIGHT, WIDTH, FakeServer, avatar, fake_server
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client.body_cache import BodyCache
from visavis.client.model import Avatar
from visavis.client.pool import ServerPool
from visavis.service.supervisor import Supervisor

WORKERS = (11, 12)


class Server(FakeServer):
    """Prepares under the name ``makes``, refuses where ``refusal`` says why, waits while ``hold`` is not set."""

    def __init__(self) -> None:
        super().__init__(known=set())
        self.refusal = ""
        self.asked: list[bytes] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.not_ready = ""
        self.lost = ""

    async def GetCapabilities(self, request: Any, context: Any) -> pb.Capabilities:
        return pb.Capabilities(
            engine="fake",
            build="7",
            version="1.2",
            ready=not self.not_ready,
            not_ready_reason=self.not_ready or self.lost,
        )

    def capacity(self) -> pb.Capacity:
        told = super().capacity()
        told.ready = not self.not_ready
        return told

    async def PrepareAvatar(self, request: Any, context: Any) -> AsyncIterator[pb.PrepareAvatarProgress]:
        self.asked.append(request.image)
        await self.hold.wait()
        if self.refusal or b"bad" in request.image:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, self.refusal or "there is no face in it")
        self.known.add(self.makes.avatar_id)
        yield pb.PrepareAvatarProgress(progress=1.0, avatar=self.makes)
        self.change()


@dataclass
class Control:
    """The parts of a control process that know of avatars, with two media workers that are only pids."""

    catalog: AvatarCatalog
    servers: ServerPool
    bodies: BodyCache
    told: list[tuple[str, str]] = field(default_factory=list)
    sip_up: bool = True
    draining: bool = False
    active: int = 0

    def __post_init__(self) -> None:
        shape = PortraitShape(WIDTH, HEIGHT, Fraction(25), "crop")
        self.preparation = PortraitPreparation(self.servers, self.bodies, shape, self._tell)
        workers = [SimpleNamespace(pid=pid, has_room=True, strain="", calls=set()) for pid in WORKERS]
        pool: Any = SimpleNamespace(workers=workers, has_room=True, stuck="")
        sip: Any = SimpleNamespace(addresses={"UDP": ["127.0.0.1:5060"]})
        voices = VoiceByLanguage({"en": _Dumb})
        archive: Any = SimpleNamespace(status=ArchiveStatus("ready", "", 0, 0))
        self.desk = StatusDesk(
            self, pool, self.servers, self.preparation, voices, sip, ["127.0.0.1:1"], Supervisor(), archive
        )

    def _tell(self, portrait: Portrait, made: Avatar) -> None:
        self.told.append((portrait.name, made.avatar_id))

    async def upload(self, name: str, data: bytes) -> None:
        checked = await self.preparation.check(data)
        self.preparation.store(self.catalog.put(name, data), checked)

    def workers_say(self, state: Any, reason: str = "", name: str = DEFAULT) -> None:
        digest = self.preparation._jobs[name].digest
        for pid in WORKERS:
            self.preparation.worker_said(pid, digest, state, reason)

    async def status(self) -> Status:
        self.desk._asked = None
        return await self.desk.status()

    async def until(self, done: Callable[[Status], bool]) -> Status:
        async with asyncio.timeout(20):
            while True:
                status = await self.status()
                if done(status):
                    return status
                await asyncio.sleep(0.02)


class _Dumb:
    sample_rate = 16_000

    async def stream(self, text: str, language: str) -> AsyncIterator[Any]:
        raise RuntimeError("its model is broken")
        yield


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with fake_server(Server()) as made:
        assert isinstance(made, Server)
        yield made


@pytest.fixture
async def control(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Control]:
    monkeypatch.setattr(preparation_module, "LOOK_S", 0.02)
    monkeypatch.setattr(preparation_module, "AGAIN_S", 0.1)
    monkeypatch.setattr(preparation_module, "REFUSED_AGAIN_S", 0.5)
    default = tmp_path / "default.png"
    default.write_bytes(b"image\x89 the default's")
    async with ServerPool(server.address) as servers:
        made = Control(
            AvatarCatalog(tmp_path / "avatars", default), servers, BodyCache(tmp_path / "bodies", 1 << 24)
        )
        watch = asyncio.create_task(made.preparation.watch())
        yield made
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        await made.preparation.close()


def default_of(control: Control) -> Portrait:
    portrait = control.catalog.get(DEFAULT)
    assert portrait is not None
    return portrait


async def test_another_avatar_is_no_news_of_the_default(server: Server, control: Control) -> None:
    await control.upload("anna", b"\xff\xd8\xff image of anna")
    control.workers_say("ready", name="anna")
    server.hold.clear()
    control.preparation.want(default_of(control))
    status = await control.until(lambda _: len(server.asked) == 2)
    assert (status.avatar.state, status.talking_face) == ("preparing", False)
    assert status.missing == ["the avatar is being prepared"]
    assert status.takes_calls and control.desk.not_ready() == []
    server.hold.set()
    status = await control.until(lambda now: now.avatar.state == "coding")
    assert status.missing == ["the avatar's idle loop is being coded"]
    control.workers_say("ready")
    assert (await control.status()).talking_face


async def test_a_strangers_bad_portrait_does_not_matter(control: Control) -> None:
    control.preparation.want(default_of(control))
    await control.until(lambda now: now.avatar.state == "coding")
    control.workers_say("ready")
    with pytest.raises(AvatarError, match="no face"):
        await control.upload("zoe", b"\xff\xd8\xff bad")
    status = await control.status()
    assert (status.avatar.state, status.talking_face, status.missing) == ("ready", True, [])
    assert control.catalog.names() == [DEFAULT]


async def test_a_later_failure_of_the_default_is_told(server: Server, control: Control) -> None:
    control.preparation.want(default_of(control))
    await control.until(lambda now: now.avatar.state == "coding")
    control.workers_say("ready")
    assert (await control.status()).talking_face and control.desk.talking_face()
    server.refusal, server.makes = "the engine is another one and wants a video", avatar("other")
    server.known.clear()
    server.change()
    status = await control.until(lambda now: now.avatar.state == "failed")
    assert not status.talking_face and status.takes_calls and not control.desk.talking_face()
    assert status.missing == [f"avatar refused: {server.refusal}"]
    server.refusal = ""
    await control.until(lambda now: now.avatar.state == "coding")
    control.workers_say("ready")
    assert (await control.status()).talking_face
    assert control.told == [(DEFAULT, "anna"), (DEFAULT, "other")]


async def test_a_refusal_that_a_media_worker_met_is_told(control: Control) -> None:
    control.preparation.want(default_of(control))
    await control.until(lambda now: now.avatar.state == "coding")
    control.workers_say("ready")
    job = control.preparation._jobs[DEFAULT]
    control.preparation.worker_said(WORKERS[1], job.digest, "failed", "the image is torn")
    assert (await control.status()).missing == ["avatar refused: the image is torn"]
    control.preparation.worker_said(WORKERS[1], "f" * 64, "ready", "")
    assert (await control.status()).avatar.state == "failed"


async def test_an_upload_is_prepared_once_and_media_workers_are_told(
    server: Server, control: Control
) -> None:
    await control.upload("anna", b"\xff\xd8\xff image of anna")
    assert control.told == [("anna", "anna")]
    control.preparation.tell_all()  # as when a media worker has come up
    assert control.told == [("anna", "anna")] * 2
    assert len(server.asked) == 1 and server.fetches == 1
    assert control.servers._replicas._sources == {}  # pictures of uploads are let go of


async def test_without_a_server_an_upload_is_taken_and_prepared_later(
    server: Server, control: Control, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparation_module, "WAIT_USABLE_S", 0.05)
    server.not_ready = "it loads the weights"
    server.change()
    status = await control.until(lambda now: now.servers[0].state == "not ready")
    assert status.missing[0] == f"the inference server at {server.address} cannot draw: it loads the weights"
    async with asyncio.timeout(10):
        while control.preparation.servers_usable:
            await asyncio.sleep(0.01)
    await control.upload("anna", b"\xff\xd8\xff image of anna")
    assert control.told == [] and "anna" in control.catalog.names()
    server.not_ready = ""
    server.change()
    async with asyncio.timeout(20):
        while not control.told:
            await asyncio.sleep(0.02)
    assert len(server.asked) == 1


async def test_the_status_says_which_gpu_of_a_server_does_not_draw(server: Server, control: Control) -> None:
    server.lost = "cuda:1: the GPU has failed"
    status = await control.until(lambda now: bool(now.servers and now.servers[0].reason))
    assert (status.servers[0].state, status.servers[0].reason) == ("ready", server.lost)
    assert not [line for line in status.missing if "cannot draw" in line]


async def test_the_status_names_servers_and_voices(server: Server, control: Control) -> None:
    with pytest.raises(RuntimeError):
        await control.desk.voices.warm("en")
    status = await control.until(lambda now: now.servers[0].speaking_slots is not None)
    one = status.servers[0]
    assert (one.state, one.engine, one.build, one.version) == ("ready", "fake", "7", "1.2")
    assert (one.speaking_slots, one.speaking_slots_free, one.max_sessions) == (4, 4, 100)
    assert [(voice.voice, voice.state, voice.reason) for voice in status.voices] == [
        ("_Dumb", "failed", "its model is broken")
    ]
    assert [worker.pid for worker in status.workers] == list(WORKERS)
    assert status.sip == {"UDP": ["127.0.0.1:5060"]}
    assert status.versions["visavis"]


async def test_draining_takes_no_calls(control: Control) -> None:
    control.draining = True
    status = await control.status()
    assert not status.takes_calls and not status.talking_face
    assert control.desk.not_ready() == ["the orchestrator is draining: no new calls are taken"]


async def test_an_erased_portrait_is_told_of_no_more(server: Server, control: Control) -> None:
    await control.upload("anna", b"\xff\xd8\xff image of anna")
    control.told.clear()
    portrait = control.catalog.delete("anna")
    assert portrait is not None
    control.preparation.forget(portrait)
    control.preparation.forget(portrait)
    control.preparation.tell_all()
    assert control.told == []


async def test_a_portrait_erased_while_it_is_prepared(server: Server, control: Control) -> None:
    portrait = control.catalog.put("anna", b"\xff\xd8\xff image of anna")
    server.hold.clear()
    control.preparation.want(portrait)
    async with asyncio.timeout(10):
        while not server.asked:
            await asyncio.sleep(0.01)
    control.catalog.delete("anna")
    control.preparation.forget(portrait)
    server.hold.set()
    await asyncio.sleep(0.1)
    assert control.told == []
