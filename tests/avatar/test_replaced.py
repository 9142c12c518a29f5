"""A call whose servers make another body of its portrait takes that one, between turns and not time and again."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from orchestrator.avatar import call_avatar
from orchestrator.avatar.avatars import ReadyAvatar
from orchestrator.avatar.call_avatar import CallAvatar
from orchestrator.avatar.source import PortraitFile
from tests.support.media import card_body
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

    def _done(self, avatar: Avatar) -> asyncio.Future[ReadyAvatar]:
        future: asyncio.Future[ReadyAvatar] = asyncio.get_running_loop().create_future()
        future.set_result(ready(avatar))
        return future

    def avatar(self, portrait: PortraitFile) -> asyncio.Future[ReadyAvatar]:
        return self._done(OLD)

    def prepared(self, portrait: PortraitFile, avatar: Avatar) -> asyncio.Future[ReadyAvatar]:
        assert portrait == PORTRAIT
        self.asked.append(avatar.avatar_id)
        return self._done(avatar)

    def converse(self, ready: ReadyAvatar, session_id: str, on_event: object) -> Any:
        self.shown.append(f"{session_id} {ready.avatar.avatar_id}")
        return Stream()


async def test_the_new_body_is_shown_between_turns_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    avatars: Any = Avatars()
    call = CallAvatar(
        avatars, PORTRAIT, session_id="s", rate=8000, on_turn=lambda _: None, on_avatar=lambda *_: None
    )
    call.speaker.start_turn(1)
    call._on_event(call.playout, AvatarReplaced(NEW))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for frame in range(3):
        call.tick(frame)
    assert avatars.shown == ["s old"]  # the turn is not over
    call.speaker.interrupt()
    call.tick(3)
    assert avatars.shown == ["s old", "s.2 new"] and len(call.body) == 70
    call._on_event(call.playout, AvatarReplaced(OLD))  # a server of the version before
    await asyncio.sleep(0)
    assert avatars.asked == ["new"]
    monkeypatch.setattr(call_avatar, "REPLACE_AGAIN_S", 0.0)
    call._replace_after = 0.0
    call._on_event(call.playout, AvatarReplaced(OLD))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert avatars.asked == ["new", "old"]
    await call.close()
