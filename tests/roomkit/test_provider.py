"""The RoomKit-shaped providers against a server in this process, from the caller's side of their threads."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import visavis
from tests.support.bt601 import exact_rgb
from tests.support.fake_server import (
    HEIGHT,
    LOOP,
    SEGMENTS,
    WIDTH,
    FakeServer,
    entered,
    fake_server,
    of_another_version,
    of_segments,
)
from visavis import AvatarSource, BodyCache, GrpcAvatarProvider, MockAvatarProvider, ServerPool, errors
from visavis.roomkit.grpc_provider import grpc_addresses
from visavis.roomkit.provider import ProviderOptions, ServerAvatarProvider
from visavis.roomkit.types import AvatarProvider, VideoFrame

pytestmark = pytest.mark.usefixtures("providers_loop")

SECOND = b"\1\0" * 16000
IMAGE = b"image of anna"


@asynccontextmanager
async def provider(
    *servers: FakeServer, tmp_path: Path, **options: Any
) -> AsyncIterator[tuple[GrpcAvatarProvider, list[VideoFrame]]]:
    seen: list[VideoFrame] = []
    options = {"fps": 25, "cache_directory": tmp_path, "connect_timeout": 10.0} | options
    provider = GrpcAvatarProvider([s.address for s in servers], **options)
    provider.on_video(seen.append)
    try:
        yield provider, seen
    finally:
        await provider.close()


async def until(what: Any, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)


async def speak_until(face: Any, what: Any) -> None:
    """One turn's sound, a second at a time, until it is so: a busy machine leaves pictures out."""
    async with asyncio.timeout(30.0):
        while not what():
            await asyncio.to_thread(face.feed_audio, SECOND, 16000)
            with contextlib.suppress(TimeoutError):
                await until(what, 1.0)


def luma(frame: VideoFrame, x: int, y: int) -> int:
    return frame.data[y * frame.width + x]


def body_index(frame: VideoFrame) -> int:
    """Which loop frame is on screen, read where no mouth is pasted."""
    return luma(frame, 0, 0) - 16


def has_mouth(frame: VideoFrame) -> bool:
    return luma(frame, 20, 30) != luma(frame, 0, 0)


async def test_idle_is_played_locally_and_speech_goes_on_from_there(tmp_path: Path) -> None:
    async with (
        fake_server() as server,
        provider(server, tmp_path=tmp_path, codec="raw_yuv420p") as (face, seen),
    ):
        assert face.is_async and not face.is_started and face.get_idle_frame() is None
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        assert face.is_started and face.is_ready and face.fps == 25
        await until(lambda: server.sessions == 1)
        sent = len(server.requests)
        idle = [face.get_idle_frame() for _ in range(10)]
        assert [body_index(f) for f in idle if f] == list(range(10))
        assert len(server.requests) == sent  # an idle call costs the server nothing
        await speak_until(face, lambda: sum(map(has_mouth, seen)) > 10)
        await asyncio.to_thread(face.end_turn)
        await until(lambda: face._session is not None and face._session._ticking is None)
        await until(lambda: len(seen) and not has_mouth(seen[-1]))
        # pictures may be left out on a busy machine, but the body only ever moves forward with time
        steps = np.diff([body_index(f) for f in seen])
        assert all(0 <= s % LOOP <= 12 for s in steps)
        after = face.get_idle_frame()
        assert after is not None and (body_index(after) - body_index(seen[-1])) % LOOP <= 3
        assert [f.sequence for f in seen] == sorted({f.sequence for f in seen})


async def test_rgb_pictures_are_the_default(tmp_path: Path) -> None:
    async with fake_server() as server, provider(server, tmp_path=tmp_path) as (face, _):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        frame = face.get_idle_frame()
        assert frame is not None and (frame.codec, frame.width, frame.height) == ("raw_rgb24", WIDTH, HEIGHT)
        body = np.full(WIDTH * HEIGHT * 3 // 2, 128, np.uint8)
        body[: WIDTH * HEIGHT] = 16
        exact = exact_rgb(body, WIDTH, HEIGHT).astype(int)
        got = np.frombuffer(frame.data, np.uint8).reshape(HEIGHT, WIDTH, 3).astype(int)
        assert np.abs(got - exact).max() <= 2


async def test_any_rate_is_taken_and_the_constructor_wins(tmp_path: Path) -> None:
    async with (
        fake_server() as server,
        provider(server, tmp_path=tmp_path, sample_rate=24000, is_async=False) as (face, _),
    ):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        await until(lambda: server.sessions == 1)
        for _ in range(50):
            await asyncio.to_thread(face.feed_audio, b"\1\0" * 480)
        await asyncio.to_thread(face.flush)
        samples = sum(len(r.audio.pcm) // 2 for r in server.requests if r.WhichOneof("message") == "audio")
        assert samples == 16000


async def test_synchronous_mode_returns_every_frame_once(tmp_path: Path) -> None:
    async with (
        fake_server() as server,
        provider(server, tmp_path=tmp_path, is_async=False, codec="raw_yuv420p") as (face, seen),
    ):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        await until(lambda: server.sessions == 1)
        idle = face.get_idle_frame()
        frames = [idle] if idle else []
        for _ in range(10):
            frames += await asyncio.to_thread(face.feed_audio, SECOND[:6400], 16000)
        assert 2 * 25 - 4 <= len(frames) - 1 <= 2 * 25
        frames += await asyncio.to_thread(face.flush)
        assert [body_index(f) for f in frames] == [i % LOOP for i in range(len(frames))]
        assert all(has_mouth(f) for f in frames[1:50])
        assert not has_mouth(frames[-1]) and not seen
        again = face.get_idle_frame()
        assert again is not None and body_index(again) == len(frames) % LOOP


async def test_interrupt_puts_the_mouth_to_rest(tmp_path: Path) -> None:
    async with (
        fake_server() as server,
        provider(server, tmp_path=tmp_path, codec="raw_yuv420p") as (face, seen),
    ):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        await until(lambda: server.sessions == 1)
        face.feed_audio(SECOND * 10)
        await until(lambda: any(map(has_mouth, seen)))
        face.interrupt()
        await until(lambda: face._session is not None and face._session._ticking is None)
        await until(lambda: not has_mouth(seen[-1]))
        assert any(r.WhichOneof("message") == "interrupt" for r in server.requests)
        face.feed_audio(SECOND)
        count = len(seen)
        await until(lambda: any(map(has_mouth, seen[count:])))


async def test_two_threads_at_once_are_refused_loudly(tmp_path: Path) -> None:
    async with fake_server() as server, provider(server, tmp_path=tmp_path) as (face, _):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        face.feed_audio(SECOND)
        caught: list[BaseException] = []

        def feed() -> None:
            try:
                face.feed_audio(SECOND)
            except errors.ProviderMisuse as e:
                caught.append(e)

        def run() -> None:
            thread = threading.Thread(target=feed)
            thread.start()
            thread.join()

        run()
        assert "give each conversation its own provider" in str(caught[0])
        face.end_turn()
        run()  # the next turn may come from another thread
        assert len(caught) == 1


async def test_a_bad_image_is_refused_and_a_missing_server_is_waited_for(tmp_path: Path) -> None:
    async with fake_server() as server:
        async with provider(server, tmp_path=tmp_path) as (face, _):
            with pytest.raises(errors.InvalidRequest, match="not an image"):
                await face.start(b"text")
            assert not face.is_started
        port = int(server.address.rpartition(":")[2])
    async with provider(server, tmp_path=tmp_path, connect_timeout=0.1) as (face, _):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        assert face.is_started and not face.is_ready
        assert face.feed_audio(SECOND) == [] and face.get_idle_frame() is None
        async with fake_server(FakeServer(), port):
            await until(lambda: face.is_ready)
            assert face.get_idle_frame() is not None


async def test_the_mock_counts_and_draws() -> None:
    face = MockAvatarProvider(fps=10, color=(1, 2, 3))
    assert face.feed_audio(SECOND) == [] and face.get_idle_frame() is None and face.flush() == []
    await face.start(IMAGE, width=4, height=2)
    frame = face.feed_audio(SECOND)[0]
    assert frame.data == bytes((1, 2, 3)) * 8 and frame.is_raw
    idle = face.get_idle_frame()
    assert idle is not None and idle.data == bytes((128, 128, 128)) * 8
    assert len(face.flush()) == 1
    assert (face.feed_count, face.total_audio_bytes, face.flush_count, face.idle_count) == (1, 32000, 1, 1)
    await face.close()
    assert not face.is_started and isinstance(face, AvatarProvider)


def test_addresses_are_read_or_refused() -> None:
    assert grpc_addresses("grpc://a:1, b:2,dns:///c:3") == ["a:1", "b:2", "dns:///c:3"]
    for bad in ("http://a:8500", "a", "", []):
        with pytest.raises(ValueError, match="host:port"):
            grpc_addresses(bad)


def test_every_public_name_is_there() -> None:
    for name in visavis.__all__:
        assert getattr(visavis, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        visavis.nothing  # noqa: B018


async def test_continuous_pictures_come_all_the_time_and_say_what_is_heard(tmp_path: Path) -> None:
    async with (
        fake_server() as server,
        provider(server, tmp_path=tmp_path, continuous=True, codec="raw_yuv420p") as (face, seen),
    ):
        assert (face.width, face.height) == (0, 0)
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        assert (face.width, face.height) == (WIDTH, HEIGHT)
        await until(lambda: len(seen) > 10)  # before the first word
        assert not any(f.metadata["speaking"] for f in seen) and not any(map(has_mouth, seen))
        await until(lambda: server.sessions == 1)
        await speak_until(face, lambda: sum(map(has_mouth, seen)) > 10)
        face.end_turn()
        spoken = [f.metadata for f in seen if f.metadata["speaking"]]
        assert {about["turn"] for about in spoken} == {1}
        assert [about["sample"] for about in spoken] == sorted(about["sample"] for about in spoken)
        await until(lambda: not seen[-1].metadata["speaking"])
        count = len(seen)
        await until(lambda: len(seen) > count + 10)  # and after the last
        assert not has_mouth(seen[-1])
        stamps = np.array([f.timestamp_ms for f in seen if f.timestamp_ms is not None])
        assert len(stamps) == len(seen) and np.all(np.abs(np.diff(stamps) % 40 - 20) > 19.9)  # media time


async def test_a_face_listens_nods_and_thinks_as_it_is_told(tmp_path: Path) -> None:
    async with (
        fake_server(of_segments()) as server,
        provider(server, tmp_path=tmp_path, codec="raw_yuv420p") as (face, _),
    ):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)

        def look(ticks: int) -> list[str]:
            frames = [face.get_idle_frame() for _ in range(ticks)]
            return entered([body_index(frame) for frame in frames if frame])

        assert set(look(1000)) == {"breath", "tilt"}
        face.user_speaks(True)
        assert set(look(1000)[1:]) == {"breath", "tilt", "lift"}
        await asyncio.sleep(1.05)
        face.user_speaks(False)
        assert look(1000).count("nod") == 1
        face.show_state("thinking")
        assert set(look(1000)[1:]) == {"away", "tilt"}
        face.show_state("idle")
        assert set(look(1000)[1:]) == {"breath", "tilt"}


@pytest.mark.parametrize("options", [{}, {"is_async": False}])
async def test_thinking_that_is_told_while_something_is_said_follows_it(
    options: dict[str, bool], tmp_path: Path
) -> None:
    async with (
        fake_server(of_segments()) as server,
        provider(server, tmp_path=tmp_path, codec="raw_yuv420p", **options) as (face, seen),
    ):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        await until(lambda: server.sessions == 1)
        shown = await asyncio.to_thread(face.feed_audio, SECOND, 16000)
        await until(lambda: any(map(has_mouth, shown or seen)))
        face.show_state("thinking")
        await asyncio.to_thread(face.feed_audio, SECOND, 16000)
        await asyncio.to_thread(face.end_turn if face.is_async else face.flush)
        await until(lambda: face._session is not None and face._session._ticking is None)
        frames = [face.get_idle_frame() for _ in range(1000)]
        assert set(entered([body_index(frame) for frame in frames if frame])[1:]) == {"away", "tilt"}


async def test_the_body_goes_where_the_server_leads_it_while_it_speaks(tmp_path: Path) -> None:
    server = of_segments()
    server.leads = True
    async with (
        fake_server(server),
        provider(server, tmp_path=tmp_path, codec="raw_yuv420p") as (face, seen),
    ):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        await until(lambda: server.sessions == 1)
        await asyncio.to_thread(face.feed_audio, SECOND * 3, 16000)
        face.end_turn()
        await until(lambda: face._session is not None and face._session._ticking is None and len(seen) > 60)
    spoken = [frame for frame in seen if has_mouth(frame)]
    late = [body_index(frame) for frame in spoken if (frame.metadata["sample"] or 0) > 16_000]
    assert len(late) > 20 and min(late) >= max(SEGMENTS)


async def test_sound_that_comes_as_it_ends_begins_no_conversation_of_a_new_version(tmp_path: Path) -> None:
    async with (
        fake_server() as server,
        provider(server, tmp_path=tmp_path) as (face, _),
        ServerPool([server.address]) as pool,
    ):
        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        await until(lambda: server.sessions == 1)
        session = face._session
        assert session is not None
        session._next = await pool.ready(AvatarSource(IMAGE, WIDTH, HEIGHT), BodyCache(tmp_path))
        opened = session._stream
        await face.stop()
        before = session._last_fed
        session.feed(np.zeros(160, np.int16))
        session.end()
        await asyncio.sleep(0.1)
        assert session._stream is opened and session._last_fed == before and session._ticking is None


@pytest.mark.parametrize("options", [{}, {"continuous": True}, {"is_async": False}])
async def test_a_new_version_of_the_servers_is_followed_between_two_turns(
    options: dict[str, bool], tmp_path: Path
) -> None:
    new = of_another_version()
    new.draining = True
    async with (
        fake_server() as old,
        fake_server(new),
        provider(old, new, tmp_path=tmp_path, codec="raw_yuv420p", **options) as (face, seen),
    ):

        async def say(seconds: int) -> list[VideoFrame]:
            returned: list[VideoFrame] = []
            for _ in range(seconds):
                returned += await asyncio.to_thread(face.feed_audio, SECOND, 16000)
            return returned

        await face.start(IMAGE, width=WIDTH, height=HEIGHT)
        await until(lambda: old.sessions == 1)
        new.draining = False
        new.change()
        shown = seen if face.is_async else await say(2)
        if face.is_async:
            await say(2)
            await until(lambda: sum(map(has_mouth, shown)) > 3)
        old.go_away.set()
        await asyncio.sleep(0.5)
        assert not new.sessions  # in mid-turn it stays where it is
        await asyncio.to_thread(face.flush)
        await until(lambda: new.sessions == 1)
        await until(lambda: not old.sessions)
        count = len(seen)
        shown = seen if face.is_async else []
        await say(1)
        if face.is_async:
            await until(lambda: sum(map(has_mouth, seen[count:])) > 3)
        else:
            async with asyncio.timeout(15):
                while sum(map(has_mouth, shown)) <= 3:
                    shown += await say(1)
        spoken = [body_index(frame) for frame in shown[count:] if has_mouth(frame)]
        assert max(spoken) < new.makes.loop_length


async def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="continuous pictures"):
        GrpcAvatarProvider("a:1", continuous=True, is_async=False, cache_directory=tmp_path)
    face = GrpcAvatarProvider("a:1", cache_directory=tmp_path)
    with pytest.raises(errors.InvalidRequest, match="there is no portrait"):
        await face.start(b"")


async def test_the_mock_shows_the_portrait() -> None:
    face = MockAvatarProvider()
    red = np.zeros((6, 6, 3), np.uint8)
    red[..., 2] = 255
    await face.start(cv2.imencode(".png", red)[1].tobytes(), width=4, height=2)
    idle = face.get_idle_frame()
    assert idle is not None and idle.data == bytes((255, 0, 0)) * 8 == face.feed_audio(SECOND)[0].data
    assert (face.width, face.height) == (4, 2)


def test_every_option_of_a_provider_is_known_to_type_checkers() -> None:
    """A misspelt one is an error there, and a TypeError here."""
    told = set(inspect.signature(ServerAvatarProvider.__init__).parameters) - {
        "self",
        "addresses",
        "connect",
        "fps",
    }
    assert set(ProviderOptions.__annotations__) == told
    with pytest.raises(TypeError, match="playback_dealy"):
        GrpcAvatarProvider("a:1", playback_dealy=1.0)  # type: ignore[call-arg]
