"""What goes wrong at a server: bad input, clients that vanish or read nothing, engines that die, draining."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import struct
import sys
import time
import zlib
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.support.avatar_client import Conversation, connect, portrait, prepare, refusal, voice
from tests.support.servers import InferenceServer, inference_server, running_server
from visavis.avatar.v1 import avatar_pb2 as pb

pytestmark = pytest.mark.process

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE


def huge_png(side: int = 20_000) -> bytes:
    """A small file that would unfold to 1.2 GB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack("!I", len(data)) + kind + data + struct.pack("!I", zlib.crc32(kind + data))

    header = struct.pack("!IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )


async def healthy(stub: Any, avatar: pb.Avatar) -> None:
    """A turn goes through."""
    talk = Conversation(stub)
    await talk.open(avatar.avatar_id)
    await talk.say(voice(3200))
    frames, finished = await talk.collect()
    assert (len(frames), finished.late) == (8, 0)
    talk.call.cancel()


async def status(server: InferenceServer) -> int:
    async with grpc.aio.insecure_channel(server.address) as channel:
        return (await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())).status


async def until(condition: Any, within_s: float = 20.0) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_pictures_and_sizes_that_are_refused() -> None:
    async with inference_server(image_bytes=200_000) as address, connect(address) as stub:
        avatar = await prepare(stub, width=320, height=240)
        big = cv2.imencode(".bmp", np.zeros((300, 300, 3), np.uint8))[1].tobytes()
        cases: list[tuple[dict[str, Any], str]] = [
            ({"image": b"this is a letter, not a picture"}, "not a picture in a known format"),
            ({"image": huge_png()}, "20000x20000 pixels"),
            ({"image": b""}, "empty"),
            ({"image": portrait()[:60]}, "decoded"),
            ({"image": big}, "at most 200000 are taken"),
            (
                {"image": portrait(), "width": 321, "height": 241},
                "must be even, and 321x241 is not: try 320x240",
            ),
            ({"image": portrait(), "width": 8000, "height": 600}, "64x64 to 1920x1080"),
            ({"image": portrait(), "width": 2, "height": 2}, "64x64 to 1920x1080"),
            ({"image": portrait(), "fps": pb.FrameRate(num=0, den=1)}, "fps must not be 0"),
            ({"image": portrait(), "fps": pb.FrameRate(num=1000)}, "fps must be 1 to 60"),
            ({"image": portrait(), "settings": {"fault": "reject"}}, "told to reject"),
            ({"image": portrait(), "fit": 17}, "fit 17 is unknown"),
        ]
        for fields, sentence in cases:
            code, told = await refusal(stub.PrepareAvatar(pb.PrepareAvatarRequest(**fields)))
            assert code == INVALID and sentence in told, (fields, told)
        await healthy(stub, avatar)


async def test_a_picture_without_a_face_is_refused() -> None:
    async with inference_server(engine_settings={"body": "loop"}) as address, connect(address) as stub:
        request = pb.PrepareAvatarRequest(image=portrait(side=200), width=320, height=240)
        code, told = await refusal(stub.PrepareAvatar(request))
        assert code == INVALID and "face" in told


async def test_streams_that_are_refused() -> None:
    async with inference_server(audio_bytes=6400, max_sessions=20) as address, connect(address) as stub:
        avatar = await prepare(stub, width=320, height=240)
        bystander = Conversation(stub)
        await bystander.open(avatar.avatar_id)
        opening = pb.Open(avatar_id=avatar.avatar_id)
        start = {"turn_start": pb.TurnStart(turn_id=1)}
        cases: list[tuple[list[dict[str, Any]], grpc.StatusCode, str]] = [
            ([{"audio": pb.Audio(turn_id=1, pcm=b"ab")}], INVALID, "Audio came before Open"),
            ([{"playhead": pb.Playhead(turn_id=1)}], INVALID, "Playhead came before Open"),
            ([{}], INVALID, "before Open"),
            ([], INVALID, "ended before Open"),
            (
                [{"open": pb.Open(avatar_id="0" * 32)}],
                grpc.StatusCode.NOT_FOUND,
                "prepare or import it here",
            ),
            ([{"open": pb.Open(avatar_id="../../etc")}], grpc.StatusCode.NOT_FOUND, "not prepared"),
            (
                [{"open": pb.Open(avatar_id=avatar.avatar_id, width=321, height=240)}],
                INVALID,
                "must be even: try 320x240",
            ),
            (
                [{"open": pb.Open(avatar_id=avatar.avatar_id, width=512, height=512)}],
                INVALID,
                "prepared at 320x240",
            ),
            (
                [{"open": pb.Open(avatar_id=avatar.avatar_id, fps=pb.FrameRate(num=30))}],
                INVALID,
                "25 frames per second",
            ),
            ([{"open": pb.Open(avatar_id=avatar.avatar_id, scope=9)}], INVALID, "scope 9 is unknown"),
            ([{"open": opening}, {"open": opening}], INVALID, "open already"),
            ([{"open": opening}, {}], INVALID, "no message this server knows"),
            (
                [{"open": opening}, {"audio": pb.Audio(turn_id=1, pcm=b"ab")}],
                INVALID,
                "turn 1 was never started",
            ),
            (
                [
                    {"open": opening},
                    start,
                    {"audio": pb.Audio(turn_id=1, pcm=b"abc")},
                    {"audio": pb.Audio(turn_id=1, first_sample=2, pcm=b"abc")},
                ],
                INVALID,
                "goes on at sample 1, not 2",
            ),
            (
                [{"open": opening}, start, {"audio": pb.Audio(turn_id=1, pcm=bytes(6402))}],
                INVALID,
                "6400 bytes",
            ),
            ([{"open": opening}, start, start], INVALID, "started before"),
            (
                [{"open": opening}, start, {"anchor": pb.Anchor(turn_id=1, loop_index=125)}],
                INVALID,
                "loop of 125",
            ),
        ]
        for requests, expected, sentence in cases:
            call = stub.Converse(iter([pb.ConverseRequest(**r) for r in requests]))
            code, told = await refusal(call)
            assert code == expected and sentence in told, (requests, code, told)
        await bystander.say(voice(3200))
        assert len((await bystander.collect())[0]) == 8


async def test_bytes_that_are_no_message() -> None:
    async with inference_server() as address, connect(address) as stub:
        avatar = await prepare(stub, width=320, height=240)
        service = "/visavis.avatar.v1.AvatarService/"
        cut = pb.ConverseRequest(open=pb.Open(avatar_id=avatar.avatar_id)).SerializeToString()[:-3]
        stream = functools.partial(stub.channel.stream_stream(service + "Converse"), metadata=stub.metadata)
        code, told = await refusal(stream(iter([cut])))
        assert code == INVALID and "not a valid message" in told
        good = pb.ConverseRequest(open=pb.Open(avatar_id=avatar.avatar_id)).SerializeToString()
        code, told = await refusal(stream(iter([good, b"\xff\xff\xff"])))
        assert code == INVALID and "not a valid message" in told
        for name, kind in (("GetCapabilities", "unary_unary"), ("PrepareAvatar", "unary_stream")):
            call = getattr(stub.channel, kind)(service + name)(b"\x0a\xff", metadata=stub.metadata)
            code, told = await refusal(call)
            assert code == INVALID and "not a valid message" in told, name
        await healthy(stub, avatar)


async def test_a_client_that_reads_nothing_costs_a_window_and_hurts_nobody() -> None:
    settings = {"loop_frames": 10}
    async with running_server(engine_settings=settings) as server, connect(server.address) as stub:
        avatar = await prepare(stub, width=1280, height=720)
        deaf = Conversation(stub)
        await deaf.open(avatar.avatar_id, scope=pb.FRAME_SCOPE_WHOLE, pixel_format=pb.PIXEL_FORMAT_RGB24)
        pcm = voice(16_000 * 20)
        await deaf.say(pcm, end=False)
        before = _rss(server.pid)
        for sample in range(0, len(pcm), 640):  # it plays on without reading: 500 frames of 2.7 MB
            await deaf.send(playhead=pb.Playhead(turn_id=1, audio_sample=sample, playing=True))
            if sample % 64_000 == 0:
                await asyncio.sleep(0.05)
        async with connect(server.address) as other:
            await healthy(other, avatar)
        assert _rss(server.pid) - before < 300e6
        deaf.call.cancel()
        await server.event("stream_closed", count=2)


async def test_a_client_that_vanishes_gives_everything_back() -> None:
    async with running_server(slots=1) as server, connect(server.address) as stub:
        async with connect(server.address) as lost:
            avatar = await prepare(lost, width=320, height=240)
            talk = Conversation(lost)
            await talk.open(avatar.avatar_id)
            await talk.say(voice(32_000), end=False)
            await talk.wait("frame")
        await server.event("stream_closed")
        capacity = await stub.WatchCapacity(pb.WatchCapacityRequest()).read()
        assert (capacity.sessions, capacity.speaking_slots_free) == (0, 1)
        await healthy(stub, avatar)


async def test_the_limit_of_streams_and_idle_streams() -> None:
    async with inference_server(max_sessions=1, idle_ms=1000) as address, connect(address) as stub:
        avatar = await prepare(stub, width=320, height=240)
        first = Conversation(stub)
        await first.open(avatar.avatar_id)
        code, told = await refusal(Conversation(stub).open(avatar.avatar_id))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "All 1 streams are open" in told
        code, told = await refusal(first.wait("frame"))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED and "1000 ms" in told
        await healthy(stub, avatar)


@pytest.mark.parametrize("how", ["kill", "crash", "dead", "hang"])
async def test_an_engine_that_dies_is_replaced(how: str) -> None:
    settings: dict[str, Any] = {"crash": {"crash_after_rows": 12}, "dead": {"dead_after_rows": 12}}.get(
        how, {}
    )
    if how == "hang":
        settings = {"hang_after_rows": 12}
    async with (
        running_server(engine_settings=settings, engine_timeout_s=1.5) as server,
        connect(server.address) as stub,
    ):
        avatar = await prepare(stub, width=320, height=240)
        talk = Conversation(stub)
        await talk.open(avatar.avatar_id)
        await talk.say(voice(640 * 20), end=False)
        await talk.wait("frame")
        if how == "kill":
            os.kill(server.engine_pid, signal.SIGKILL)
        else:
            await talk.send(playhead=pb.Playhead(turn_id=1, audio_sample=640 * 8, playing=True))
        assert (await talk.wait("go_away")).reason == "the engine stopped"
        code, told = await refusal(talk.wait("frame"))
        assert code == UNAVAILABLE and "open the stream again" in told
        await server.event("engine_ready", count=2)
        await healthy(stub, avatar)  # from the store, without preparing again
        assert await status(server) == health_pb2.HealthCheckResponse.SERVING


async def test_health_follows_the_engine() -> None:
    async with (
        running_server(engine_settings={"load_ms": 400}, ready=False) as server,
        connect(server.address) as stub,
    ):
        assert await status(server) == health_pb2.HealthCheckResponse.NOT_SERVING
        code, told = await refusal(stub.PrepareAvatar(pb.PrepareAvatarRequest(image=portrait())))
        assert code == UNAVAILABLE and "engine is not ready" in told
        c = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        assert not c.ready and "engine" in c.not_ready_reason
        await server.event("engine_ready")
        assert await status(server) == health_pb2.HealthCheckResponse.SERVING
        os.kill(server.engine_pid, signal.SIGKILL)

        async def down() -> bool:
            return await status(server) == health_pb2.HealthCheckResponse.NOT_SERVING

        await until(down)


async def test_an_engine_that_cannot_load_says_why() -> None:
    settings = {"load_error": "unet.pth is missing: run visavis-models download"}
    async with (
        running_server(engine_settings=settings, ready=False) as server,
        connect(server.address) as stub,
    ):
        await server.event("engine_down")
        c = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        assert not c.ready and "unet.pth is missing" in c.not_ready_reason
        told = await stub.WatchCapacity(pb.WatchCapacityRequest()).read()
        assert not told.ready and "unet.pth is missing" in told.not_ready_reason


@pytest.mark.parametrize(
    ("engine", "settings", "sentence"),
    [
        ("mock", {"missing": "unet.pth is missing: run visavis-models download"}, "unet.pth is missing"),
        ("mock", {"colour_of_eyes": "blue"}, "has no setting 'colour_of_eyes'"),
        ("nowhere_to_be_found:Engine", {}, "cannot be imported: ModuleNotFoundError"),
    ],
)
async def test_an_engine_that_can_never_load_ends_the_server(
    engine: str, settings: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    values = {"ENGINE": engine, "ENGINE_SETTINGS": json.dumps(settings), "PORT": "0", "HTTP_PORT": "0"}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "inference_server", "--cache-dir", str(tmp_path)),
        env={**os.environ, **{f"VISAVIS_INFERENCE_{name}": value for name, value in values.items()}},
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(process.communicate(), 60)
    lines = told.decode().splitlines()
    assert process.returncode == 1, told
    assert lines[-1].startswith(f"The engine {engine} cannot load: ") and sentence in lines[-1]
    assert "Traceback" not in told.decode()


async def test_a_lost_batch_is_drawn_again_and_loses_nothing() -> None:
    async with (
        running_server(engine_settings={"oom_every": 3, "buckets": "1+2"}) as server,
        connect(server.address) as stub,
    ):
        avatar = await prepare(stub, width=320, height=240)
        talk = Conversation(stub)
        await talk.open(avatar.avatar_id)
        await talk.say(voice(640 * 7), end=False)
        frames = [await talk.wait("frame") for _ in range(4)]
        await talk.send(end_of_turn=pb.EndOfTurn(turn_id=1))
        frames += [await talk.wait("frame") for _ in range(6)]
        finished = await talk.wait("turn_finished")
        assert sorted(f.audio_sample for f in frames) == [640 * k for k in range(10)]
        assert (finished.frames, finished.late, frames[-1].last) == (10, 0, True)
        await server.event("batch_failed")


@pytest.mark.parametrize("fault", ["prepare", "attach"])
async def test_an_avatar_that_kills_the_engine_is_an_error_and_not_the_end(fault: str) -> None:
    async with running_server() as server, connect(server.address) as stub:
        good = await prepare(stub, width=320, height=240)
        request = pb.PrepareAvatarRequest(image=portrait(1), width=320, height=240, settings={"fault": fault})
        if fault == "prepare":
            code, told = await refusal(stub.PrepareAvatar(request))
        else:
            bad = await prepare(stub, portrait(1), width=320, height=240, settings={"fault": fault})
            code, told = await refusal(Conversation(stub).open(bad.avatar_id))
        assert code == UNAVAILABLE and "engine stopped" in told
        await server.event("engine_ready", count=2)
        await healthy(stub, good)


async def test_a_full_engine_lets_go_of_what_nobody_uses() -> None:
    async with inference_server(engine_settings={"max_avatars": 2}) as address, connect(address) as stub:
        avatars = [await prepare(stub, portrait(k), width=320, height=240) for k in range(3)]
        talks = [Conversation(stub) for _ in range(3)]
        await talks[0].open(avatars[0].avatar_id)
        await talks[1].open(avatars[1].avatar_id)
        code, told = await refusal(talks[2].open(avatars[2].avatar_id))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED and "no more fit" in told
        talks[0].call.cancel()

        async def opens() -> bool:
            try:
                await Conversation(stub).open(avatars[2].avatar_id)
            except grpc.aio.AioRpcError:
                return False
            return True

        await until(opens)


async def test_draining_finishes_turns_and_refuses_new_ones() -> None:
    async with running_server(drain_s=20) as server, connect(server.address) as stub:
        avatar = await prepare(stub, width=320, height=240)
        talk, idle = Conversation(stub), Conversation(stub)
        await talk.open(avatar.avatar_id)
        await idle.open(avatar.avatar_id)
        await talk.say(voice(640 * 30))
        await talk.wait("frame")
        watch = stub.WatchCapacity(pb.WatchCapacityRequest())
        await watch.read()
        server.process.send_signal(signal.SIGTERM)
        assert (await idle.wait("go_away")).deadline_ms == 20_000
        while not (await watch.read()).draining:
            pass
        assert await status(server) == health_pb2.HealthCheckResponse.NOT_SERVING
        code, told = await refusal(Conversation(stub).open(avatar.avatar_id))
        assert code == UNAVAILABLE and "draining" in told
        await idle.say(voice(640), turn_id=5)
        assert "draining" in (await idle.wait("turn_rejected")).reason
        frames, finished = await talk.collect()
        assert frames[-1].last and finished.late == 0
        code, told = await refusal(talk.wait("frame"))
        assert code == UNAVAILABLE and "draining" in told
        assert await asyncio.wait_for(server.process.wait(), 20) == 0


async def test_a_drain_ends_at_its_deadline_and_a_second_signal_at_once() -> None:
    for drain_s, again in ((0.5, False), (60, True)):
        async with running_server(drain_s=drain_s) as server, connect(server.address) as stub:
            avatar = await prepare(stub, width=320, height=240)
            talk = Conversation(stub)
            await talk.open(avatar.avatar_id)
            await talk.say(voice(640 * 30), end=False)
            await talk.wait("frame")
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            await server.event("draining")
            if again:
                server.process.send_signal(signal.SIGTERM)
            code = await asyncio.wait_for(server.process.wait(), 20)
            assert code == (130 if again else 0) and time.monotonic() - began < 20


async def test_the_engine_process_dies_with_the_server() -> None:
    async with running_server() as server:
        engine = server.engine_pid
        server.kill()
        await server.process.wait()

        async def gone() -> bool:
            try:
                return _state(engine) == "Z"
            except FileNotFoundError:
                return True

        await until(gone)


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def _rss(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) * 1024
