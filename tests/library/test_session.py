"""The avatar session over a server in this process: real time, servers that come and go, its end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.fake_server import HEIGHT, LOOP, WIDTH, FakeServer, fake_server, of_another_version
from visavis import AvatarSession, AvatarSource, BodyCache, FacePicture, ServerPool, errors
from visavis.client import replacement
from visavis.client.messages import Connected, Disconnected
from visavis.playout.turn import PCM
from visavis.session import SessionEvent, SpeechFinished, SpeechStarted

SOURCE = AvatarSource(b"image of anna", WIDTH, HEIGHT)
SECOND = np.full(16_000, 7, np.int16)


@contextlib.asynccontextmanager
async def session(
    *servers: FakeServer, tmp_path: Path, source: AvatarSource = SOURCE, timeout_s: float = 20.0
) -> AsyncIterator[tuple[AvatarSession, list[SessionEvent]]]:
    told: list[SessionEvent] = []
    async with ServerPool([s.address for s in servers]) as pool:
        opened = pool.session(source, bodies=BodyCache(tmp_path), on_event=told.append, timeout_s=timeout_s)
        async with opened as face:
            yield face, told


@contextlib.asynccontextmanager
async def two_versions(tmp_path: Path) -> AsyncIterator[tuple[FakeServer, FakeServer, AvatarSession]]:
    """A session on the first of two servers: the other one makes another body, and is not to be used yet."""
    new = of_another_version()
    new.draining = True
    async with (
        fake_server() as old,
        fake_server(new),
        session(old, new, tmp_path=tmp_path) as (face, _),
    ):
        yield old, new, face


def has_mouth(picture: FacePicture) -> bool:
    return bool(picture.pixels[30, 20] != picture.pixels[0, 0])


async def read(face: AvatarSession, ticks: int, rate: int = 16_000) -> list[tuple[FacePicture, PCM | None]]:
    shown = []
    async with contextlib.aclosing(face.play(rate)) as playing:
        async for both in playing:
            shown.append(both)
            if len(shown) == ticks:
                break
    return shown


async def test_idle_then_speech_then_idle(tmp_path: Path) -> None:
    async with fake_server() as server, session(server, tmp_path=tmp_path) as (face, told):
        assert (face.width, face.height, face.fps, face.speaking) == (WIDTH, HEIGHT, 25, False)
        clock = asyncio.get_running_loop()
        began = clock.time()
        idle = await read(face, 10)
        assert clock.time() - began >= 0.35  # in real time, and on a busy machine not faster
        assert [sound for _, sound in idle] == [None] * 10 and not any(has_mouth(p) for p, _ in idle)
        async with asyncio.timeout(15):
            while not face.connected:
                await asyncio.sleep(0.01)
        face.feed(SECOND, 16_000)
        face.end_turn()
        shown = await read(face, 45)
        assert sum(len(sound) for _, sound in shown if sound is not None) == 16_000
        assert sum(has_mouth(p) for p, _ in shown) > 5
        assert not has_mouth(shown[-1][0])
        stamps = [p.timestamp for p, _ in idle + shown]
        assert stamps == sorted(set(stamps))
        assert all((int(p.pixels[0, 0]) - 16) in range(LOOP) for p, _ in shown)
        events = [e for e in told if isinstance(e, SpeechStarted | SpeechFinished)]
        assert events == [SpeechStarted(1), SpeechFinished(1, 1.0, False)]
        assert isinstance(told[0], Connected)


async def test_a_voice_that_is_cut_says_where(tmp_path: Path) -> None:
    async with fake_server() as server, session(server, tmp_path=tmp_path) as (face, told):
        face.feed(np.concatenate([SECOND] * 4), 16_000)
        shown = await read(face, 30)
        heard = sum(len(sound) for _, sound in shown if sound is not None) / 16_000
        assert face.interrupt() == heard > 0.3
        assert told[-1] == SpeechFinished(1, heard, True)
        after = await read(face, 5)
        assert [sound for _, sound in after] == [None] * 5 and not any(has_mouth(p) for p, _ in after)


async def test_the_voice_goes_on_without_a_server_and_lips_come_back_with_one(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as running:
        server = await running.enter_async_context(fake_server())
        async with session(server, tmp_path=tmp_path) as (face, told):
            async with asyncio.timeout(15):
                while not face.connected:
                    await asyncio.sleep(0.01)
            await running.aclose()
            face.feed(SECOND, 16_000)
            face.end_turn()
            shown = await read(face, 45)
            assert sum(len(sound) for _, sound in shown if sound is not None) == 16_000
            assert not face.connected and any(isinstance(e, Disconnected) for e in told)
            port = int(server.address.rpartition(":")[2])
            async with fake_server(FakeServer(), port), asyncio.timeout(15):
                while not face.connected:
                    await asyncio.sleep(0.01)
                face.feed(SECOND, 16_000)
                face.end_turn()
                assert sum(has_mouth(p) for p, _ in await read(face, 40)) > 5


async def test_a_new_version_of_the_servers_is_followed_between_two_turns(tmp_path: Path) -> None:
    async with two_versions(tmp_path) as (old, new, face), asyncio.timeout(30):
        while not face.connected:
            await asyncio.sleep(0.01)
        new.draining = False
        new.change()
        face.feed(SECOND, 16_000)
        face.end_turn()
        shown = await read(face, 10)
        old.go_away.set()
        while face.speaking or not face.connected or not new.sessions:
            shown += await read(face, 1)
        assert sum(len(sound) for _, sound in shown if sound is not None) == 16_000
        face.feed(SECOND, 16_000)
        face.end_turn()
        shown = await read(face, 40)
        assert sum(has_mouth(p) for p, _ in shown) > 5
        assert max(int(p.pixels[0, 0]) - 16 for p, _ in shown) < new.makes.loop_length


async def test_servers_that_go_back_to_the_version_before_are_followed_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Soon after the change: not at once, but not never."""
    monkeypatch.setattr(replacement, "AGAIN_S", 4.0)
    async with two_versions(tmp_path) as (old, new, face), asyncio.timeout(25):
        for leaving, coming in ((old, new), (new, old)):
            while not leaving.sessions:
                await read(face, 1)
            coming.go_away.clear()
            coming.draining, leaving.draining = False, True
            coming.change()
            leaving.change()
            leaving.go_away.set()
            while not coming.sessions or face.speaking:
                await read(face, 1)
        face.feed(SECOND, 16_000)
        face.end_turn()
        assert sum(has_mouth(p) for p, _ in await read(face, 40)) > 5


async def test_an_end_with_the_first_picture_of_a_new_version_leaves_no_conversation(tmp_path: Path) -> None:
    new = of_another_version()
    async with (
        fake_server() as old,
        fake_server(new),
        ServerPool([old.address]) as one,
        ServerPool([new.address]) as other,
        asyncio.timeout(15),
    ):
        bodies = BodyCache(tmp_path)
        async with one.session(SOURCE, bodies=bodies) as face:
            while not old.sessions:
                await asyncio.sleep(0.01)
            face._next = await other.ready(SOURCE, bodies)
            async for picture, _ in face.play(16_000):
                assert int(picture.pixels[0, 0]) - 16 == 0
                break
        while old.sessions:
            await asyncio.sleep(0.01)


async def test_another_reader_ends_the_one_before_and_the_end_ends_all(tmp_path: Path) -> None:
    async with fake_server() as server, session(server, tmp_path=tmp_path) as (face, _):

        async def count() -> int:
            return sum([1 async for _ in face.play(16_000)])

        first = asyncio.create_task(count())
        await asyncio.sleep(0.1)
        second = asyncio.create_task(count())
        assert await first > 0
        await asyncio.sleep(0.1)
        await face.close()
        assert await second > 0


async def test_what_cannot_be_shown_is_told_in_a_sentence(tmp_path: Path) -> None:
    async with fake_server() as server:
        bad = AvatarSource(b"text", WIDTH, HEIGHT)
        with pytest.raises(errors.InvalidRequest, match="not an image"):
            async with session(server, tmp_path=tmp_path, source=bad):
                pass
        server.known.clear()
    with pytest.raises(errors.ServerUnavailable, match=r"cannot be shown after 0\.2 s"):
        async with session(server, tmp_path=tmp_path, timeout_s=0.2):
            pass


async def test_it_is_used_in_async_with(tmp_path: Path) -> None:
    async with fake_server() as server, ServerPool(server.address) as pool:
        face = pool.session(SOURCE, bodies=BodyCache(tmp_path))
        with pytest.raises(RuntimeError, match="async with"):
            face.feed(SECOND, 16_000)
        async with face:
            with pytest.raises(ValueError, match="4000"):
                await anext(face.play(100))
            with pytest.raises(RuntimeError, match="opened once"):
                async with face:
                    pass


async def test_a_listener_that_fails_costs_nobody_anything(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: SessionEvent) -> None:
        raise ValueError("a mistake of the application")

    async with (
        fake_server() as server,
        ServerPool(server.address) as pool,
        pool.session(SOURCE, bodies=BodyCache(tmp_path), on_event=fail) as face,
    ):
        face.feed(SECOND[:3200], 16_000)
        face.end_turn()
        shown = await read(face, 20)
    assert sum(len(sound) for _, sound in shown if sound is not None) == 3200
    assert "a mistake of the application" in caplog.text


async def test_a_reader_that_is_late_puts_off_pictures_and_sound_alike(tmp_path: Path) -> None:
    async with fake_server() as server, session(server, tmp_path=tmp_path) as (face, _):
        face.feed(SECOND, 16_000)
        face.end_turn()
        shown: list[tuple[FacePicture, PCM | None]] = []
        clock = asyncio.get_running_loop()
        late = 0.0
        async with contextlib.aclosing(face.play(16_000)) as playing:
            async for both in playing:
                shown.append(both)
                if len(shown) == 13:
                    late = clock.time()
                if len(shown) == 12:
                    await asyncio.sleep(0.5)  # what a queue that is full does
                if len(shown) == 18:
                    late = clock.time() - late
                if len(shown) == 60:
                    break
        assert late >= 4 * 0.04  # not made up for
        assert np.allclose(np.diff([p.timestamp for p, _ in shown]), 0.04)
        said = np.concatenate([sound for _, sound in shown if sound is not None])
        assert np.array_equal(said, SECOND)
