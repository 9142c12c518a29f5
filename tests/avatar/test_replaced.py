"""A call whose servers make another body of its portrait takes that one, between turns and not time and again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from orchestrator.avatar.avatars import ReadyAvatar, WorkerAvatars
from orchestrator.avatar.call_avatar import CallAvatar
from orchestrator.avatar.source import PortraitFile
from tests.support.media import card_body
from visavis.client import replacement
from visavis.client.body_cache import Body
from visavis.client.messages import AvatarReplaced
from visavis.client.model import Avatar, AvatarSource
from visavis.client.start_delay import StartDelay

FPS = Fraction(25)
PORTRAIT = PortraitFile(Path("portrait"), 64, 48, FPS, "crop")


def ready(avatar: Avatar) -> ReadyAvatar:
    frames = card_body(avatar.loop_length).frames
    height, width = frames.shape[1] * 2 // 3, frames.shape[2]
    body = Body(width, height, FPS, frames, avatar.body_sha256)
    return ReadyAvatar(PORTRAIT, avatar, AvatarSource(b"", width, height, FPS), body)


OLD = Avatar(
    avatar_id="old", body_id="1", body_sha256=b"1" * 32, width=64, height=48, fps=FPS, loop_length=50
)
NEW = replace(OLD, avatar_id="new", body_id="2", body_sha256=b"2" * 32, loop_length=70)
CHOSEN = replace(OLD, avatar_id="chosen", body_id="3", body_sha256=b"3" * 32)


class Stream:
    """An avatar stream that has no server."""

    connected = False

    def __init__(self) -> None:
        self.start_delay = StartDelay(FPS)

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None

    async def close(self) -> None: ...


class Avatars:
    """A worker's avatars: all are ready at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.shown: list[str] = []

    def _done(self, avatar: Avatar, portrait: PortraitFile) -> asyncio.Future[ReadyAvatar]:
        future: asyncio.Future[ReadyAvatar] = asyncio.get_running_loop().create_future()
        future.set_result(replace(ready(avatar), portrait=portrait))
        return future

    def avatar(self, portrait: PortraitFile) -> asyncio.Future[ReadyAvatar]:
        return self._done(OLD if portrait == PORTRAIT else CHOSEN, portrait)

    def prepared(
        self, portrait: PortraitFile, avatar: Avatar, source: AvatarSource
    ) -> asyncio.Future[ReadyAvatar]:
        assert portrait == PORTRAIT and source == ready(OLD).source
        self.asked.append(avatar.avatar_id)
        return self._done(avatar, portrait)

    def converse(self, ready: ReadyAvatar, session_id: str, on_event: object) -> Any:
        self.shown.append(f"{session_id} {ready.avatar.avatar_id}")
        return Stream()


async def until_asked(avatars: Avatars, *asked: str) -> None:
    async with asyncio.timeout(10):
        while avatars.asked != [*asked]:
            await asyncio.sleep(0.01)


@pytest.fixture
async def avatars() -> Avatars:
    return Avatars()


@pytest.fixture
async def call(avatars: Any) -> AsyncIterator[CallAvatar]:
    call = CallAvatar(
        avatars, PORTRAIT, session_id="s", rate=8000, on_turn=lambda _: None, on_avatar=lambda *_: None
    )
    yield call
    await call.close()


async def test_the_new_body_is_shown_between_turns_and_once(
    monkeypatch: pytest.MonkeyPatch, avatars: Avatars, call: CallAvatar
) -> None:
    monkeypatch.setattr(replacement, "AGAIN_S", 0.3)
    call.speaker.start_turn(1)
    call._on_event(call.playout, AvatarReplaced(NEW))
    await until_asked(avatars, "new")
    await asyncio.sleep(0)
    for frame in range(3):
        call.tick(frame)
    assert avatars.shown == ["s old"]  # the turn is not over
    call.speaker.interrupt()
    call.tick(3)
    assert avatars.shown == ["s old", "s.2 new"] and len(call.body) == 70
    told = asyncio.get_running_loop().time()
    call._on_event(call.playout, AvatarReplaced(OLD))  # a server of the version before
    for _ in range(3):
        await asyncio.sleep(0)
    assert avatars.asked == ["new"] or asyncio.get_running_loop().time() > told + 0.2
    await until_asked(avatars, "new", "old")  # later: only such servers may be left


async def test_a_portrait_that_was_chosen_meanwhile_stays_chosen(avatars: Avatars, call: CallAvatar) -> None:
    call.speaker.start_turn(1)
    call.show(replace(PORTRAIT, path=Path("chosen")))
    for _ in range(3):
        await asyncio.sleep(0)
    call._on_event(call.playout, AvatarReplaced(NEW))  # of what is still shown
    for _ in range(5):
        await asyncio.sleep(0)
    call.speaker.interrupt()
    call.tick(0)
    assert avatars.shown == ["s old", "s.2 chosen"]


async def test_a_new_body_is_of_the_portrait_as_it_was(tmp_path: Path) -> None:
    """Another file may lie in its place by now, or none."""
    digests = list[str]()
    avatars = WorkerAvatars(["127.0.0.1:9"], tmp_path, 1 << 20, lambda _, digest, *__: digests.append(digest))
    before = AvatarSource(b"as it was", 64, 48, FPS)
    task = avatars.prepared(PortraitFile(tmp_path / "gone", 64, 48, FPS, "crop"), NEW, before)
    async with asyncio.timeout(10):
        while not digests:
            await asyncio.sleep(0.01)
    assert set(digests) == {before.digest}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await avatars.close()
