"""Real servers over loopback: conversations, what is read back from the card, what the contract promises."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from typing import Any

import grpc
import numpy as np
import pytest
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from inference_server.engines.card import audio_crc
from testing.card import read_card
from tests.support.avatar_client import Conversation, connect, portrait, prepare, refusal, voice
from tests.support.bt601 import exact_rgb
from tests.support.credentials import FLEET
from tests.support.servers import InferenceServer, inference_server, running_server
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.frames import Rect, paste_i420

pytestmark = pytest.mark.process

SERVICE = "visavis.avatar.v1.AvatarService"


async def body_of(stub: Any, avatar: pb.Avatar) -> np.ndarray:
    frames = [
        np.frombuffer(f.pixels, np.uint8)
        async for f in stub.FetchBody(pb.FetchBodyRequest(avatar_id=avatar.avatar_id))
    ]
    return np.stack(frames).reshape(len(frames), avatar.height * 3 // 2, avatar.width)


def shown(frame: pb.Frame, body: np.ndarray) -> np.ndarray:
    """The luma of the picture that a client would show."""
    _, rows, width = body.shape
    picture = body[frame.loop_index].copy()
    if frame.pixels:
        r = frame.rect
        paste_i420(picture, width, rows * 2 // 3, Rect(r.x, r.y, r.width, r.height), frame.pixels)
    return picture[: rows * 2 // 3]


async def health_of(address: str, service: str) -> int:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        return (await stub.Check(health_pb2.HealthCheckRequest(service=service))).status


async def http_text(server: InferenceServer, path: str) -> str:
    url = f"http://127.0.0.1:{server.http_port}{path}"
    request = urllib.request.Request(url, headers=FLEET)
    return await asyncio.to_thread(lambda: urllib.request.urlopen(request).read().decode())


def fields_of(message: Message) -> dict[str, Any]:
    return {field.name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}


async def test_a_turn_comes_back_as_frames_that_name_their_own_audio() -> None:
    async with inference_server() as address, connect(address) as stub:
        avatar = await prepare(stub, width=300, height=300, settings={"number": "777"})
        assert (avatar.width, avatar.height, avatar.fps.num, avatar.loop_length) == (300, 300, 25, 125)
        body = await body_of(stub, avatar)
        assert body.shape == (125, 450, 300)
        pcm = voice(16_000, seed=5)
        pcm[4 * 640 : 6 * 640] = 0
        talk = Conversation(stub)
        opened = await talk.open(avatar.avatar_id, session_id="one")
        assert opened.scope == pb.FRAME_SCOPE_RECTANGLE and opened.window_ms == 400
        await talk.say(pcm, loop_index=120)
        frames, finished = await talk.collect()
        assert [f.audio_sample for f in frames] == [640 * k for k in range(28)]
        assert [f.loop_index for f in frames] == [(120 + k) % 125 for k in range(28)]
        assert (finished.frames, finished.late) == (28, 0)
        assert [k for k, f in enumerate(frames) if f.kind == pb.FRAME_KIND_BODY] == [4, 5, 27]
        assert frames[27].last and not any(f.last for f in frames[:27])
        for k, frame in enumerate(frames):
            card = read_card(shown(frame, body))
            assert card is not None and card.loop_index == frame.loop_index
            if frame.kind == pb.FRAME_KIND_BODY:
                assert card.mouth is None and not frame.pixels
                continue
            assert card.mouth is not None
            spoken = min(k, 24)  # closing frames are the last one, fading
            assert (card.mouth.frame, card.mouth.loop_index, card.mouth.number) == (
                spoken,
                frame.loop_index,
                777,
            )
            assert card.mouth.audio_crc == audio_crc(pcm[640 * spoken : 640 * (spoken + 1)])
        await talk.call.done_writing()
        assert await talk.read() is None and await talk.call.code() == grpc.StatusCode.OK


async def test_whole_frames_and_rgb_show_the_same_picture() -> None:
    async with inference_server() as address, connect(address) as stub:
        avatar = await prepare(stub, width=320, height=240)
        body = await body_of(stub, avatar)
        pcm = voice(640 * 6)
        pictures = {}
        for name, fields in {
            "rectangle": {},
            "whole": {"scope": pb.FRAME_SCOPE_WHOLE},
            "rgb": {"scope": pb.FRAME_SCOPE_WHOLE, "pixel_format": pb.PIXEL_FORMAT_RGB24},
            "other body": {"body_sha256": b"x" * 32},
            "same body": {"body_sha256": avatar.body_sha256},
        }.items():
            talk = Conversation(stub)
            opened = await talk.open(avatar.avatar_id, **fields)  # type: ignore[arg-type]
            assert (opened.scope == pb.FRAME_SCOPE_WHOLE) == (name in ("whole", "rgb", "other body"))
            await talk.say(pcm, loop_index=7)
            pictures[name], _ = await talk.collect()
            talk.call.cancel()
        assert len(pictures["rgb"][0].pixels) == 320 * 240 * 3
        assert [f.pixels for f in pictures["other body"]] == [f.pixels for f in pictures["whole"]]
        assert [f.pixels for f in pictures["same body"]] == [f.pixels for f in pictures["rectangle"]]
        for part, whole, rgb in zip(pictures["rectangle"], pictures["whole"], pictures["rgb"], strict=True):
            full = np.frombuffer(whole.pixels, np.uint8).reshape(360, 320)
            assert np.array_equal(full[:240], shown(part, body))
            expected = exact_rgb(full, 320, 240).astype(int)
            got = np.frombuffer(rgb.pixels, np.uint8).reshape(240, 320, 3).astype(int)
            assert np.abs(expected - got).max() <= 2


async def test_ten_sessions_at_once_do_not_mix() -> None:
    async with inference_server() as address, connect(address) as stub:
        avatars = [
            await prepare(stub, portrait(k), width=320, height=240, settings={"number": str(100 + k)})
            for k in range(10)
        ]
        bodies = [await body_of(stub, avatar) for avatar in avatars]
        assert len({a.avatar_id for a in avatars}) == len({a.body_sha256 for a in avatars}) == 10

        async def one(k: int) -> int:
            talk = Conversation(stub)
            await talk.open(avatars[k].avatar_id, session_id=f"call-{k}")
            seen = 0
            for turn in (1, 2):
                pcm = voice(640 * 30, seed=1000 * turn + k)
                await talk.say(pcm, turn_id=turn, loop_index=k * 3)
                frames, finished = await talk.collect(turn_id=turn)
                assert (len(frames), finished.late) == (33, 0)
                for number, frame in enumerate(frames[:30]):
                    card = read_card(shown(frame, bodies[k]))
                    assert card is not None and card.mouth is not None
                    assert card.number == int(avatars[k].body_id[:4], 16)
                    assert (card.mouth.number, card.mouth.frame) == (100 + k, number)
                    assert card.mouth.audio_crc == audio_crc(pcm[640 * number : 640 * (number + 1)])
                    seen += 1
            talk.call.cancel()
            return seen

        assert await asyncio.gather(*(one(k) for k in range(10))) == [60] * 10


async def test_interrupt_passes_audio_and_frames() -> None:
    async with inference_server() as address, connect(address) as stub:
        avatar = await prepare(stub, width=320, height=240)
        talk = Conversation(stub)
        await talk.open(avatar.avatar_id)
        await talk.say(voice(64_000), end=False)
        await talk.wait("frame")
        await talk.send(interrupt=pb.Interrupt(epoch=1))
        assert (await talk.wait("interrupted")).epoch == 1
        await talk.say(voice(3_200, seed=2), turn_id=2, epoch=1)
        frames, finished = await talk.collect(turn_id=2, epoch=1)
        assert {f.epoch for f in frames} == {1} and finished.turn_id == 2


async def test_capabilities_health_reflection_and_metrics() -> None:
    async with running_server(slots=3) as server, connect(server.address) as stub:
        c = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        assert (c.engine, c.ready, c.draining, c.speaking_slots) == ("mock", True, False, 3)
        assert c.limits.window_ms == 400 and c.look_ahead_ms == 40 and c.build
        for service in ("", SERVICE):
            assert await health_of(server.address, service) == health_pb2.HealthCheckResponse.SERVING
        listing = reflection_pb2_grpc.ServerReflectionStub(stub.channel).ServerReflectionInfo(
            iter([reflection_pb2.ServerReflectionRequest(list_services="")]), metadata=stub.metadata
        )
        async for answer in listing:
            assert SERVICE in {s.name for s in answer.list_services_response.service}
            break
        text = await http_text(server, "/metrics")
        assert "visavis_speaking_slots_total 3.0" in text and "visavis_engine_ready 1.0" in text


async def test_capabilities_are_the_same_on_every_face() -> None:
    settings = {"video_bytes": 5_000_000, "video_s": 2.5, "idle_ms": 70_000, "http_connections": 99}
    async with running_server(**settings) as server, connect(server.address) as stub:
        c = await stub.GetCapabilities(pb.GetCapabilitiesRequest())
        assert (c.limits.video_bytes, c.limits.video_ms, c.limits.idle_ms) == (5_000_000, 2500, 70_000)
        expected = fields_of(c) | {
            "pixel_formats": ["i420", "rgb24"],
            "limits": fields_of(c.limits) | {"connections": 99},
        }
        assert json.loads(await http_text(server, "/v1/capabilities")) == expected


async def test_capacity_is_told_at_once_and_on_change() -> None:
    async with inference_server(slots=1) as address, connect(address) as stub:
        watch = stub.WatchCapacity(pb.WatchCapacityRequest())
        first = await watch.read()
        assert (first.speaking_slots, first.speaking_slots_free, first.sessions, first.ready) == (
            1,
            1,
            0,
            True,
        )
        avatar = await prepare(stub, width=320, height=240)
        assert list((await watch.read()).avatar_ids) == [avatar.avatar_id]
        talk = Conversation(stub)
        await talk.open(avatar.avatar_id)
        assert (await watch.read()).sessions == 1
        await talk.say(voice(3200), end=False)
        assert (await watch.read()).speaking_slots_free == 0
        other = Conversation(stub)
        await other.open(avatar.avatar_id)
        await other.say(voice(3200))
        assert "speaking slots" in (await other.wait("turn_rejected")).reason
        await talk.send(interrupt=pb.Interrupt(epoch=1))
        await talk.wait("interrupted")
        await other.say(voice(3200), turn_id=2)
        await other.wait("turn_accepted")


async def test_preparing_twice_is_one_avatar_and_progress_is_told() -> None:
    async with running_server() as server, connect(server.address) as stub:
        request = pb.PrepareAvatarRequest(image=portrait(1), width=320, height=240)

        async def ask() -> list[pb.PrepareAvatarProgress]:
            return [p async for p in stub.PrepareAvatar(request)]

        many = await asyncio.gather(*(ask() for _ in range(4)))
        assert len({answers[-1].avatar.avatar_id for answers in many}) == 1
        for answers in many:
            progress = [p.progress for p in answers]
            assert progress == sorted(progress) and progress[-1] == 1.0
            assert [p.HasField("avatar") for p in answers] == [False] * (len(answers) - 1) + [True]
        assert len(await ask()) == 1  # prepared: the answer comes at once
        assert sum(line["event"] == "avatar_prepared" for line in server.log) == 1
        other = await prepare(stub, portrait(1), width=320, height=240, settings={"number": "9"})
        assert other.avatar_id != many[0][-1].avatar.avatar_id and other.body_id == many[0][-1].avatar.body_id


async def test_avatars_survive_a_restart_and_damage(tmp_path: Any) -> None:
    async with inference_server(cache_dir=tmp_path) as address, connect(address) as stub:
        avatar = await prepare(stub, width=320, height=240)
    async with inference_server(cache_dir=tmp_path) as address, connect(address) as stub:
        assert (await Conversation(stub).open(avatar.avatar_id)).avatar == avatar
    frames = tmp_path / "bodies" / avatar.body_id / "frames.npy"
    data = bytearray(frames.read_bytes())
    data[-1] ^= 1
    frames.write_bytes(data)
    async with running_server(cache_dir=tmp_path) as server, connect(server.address) as stub:
        code, sentence = await refusal(Conversation(stub).open(avatar.avatar_id))
        assert code == grpc.StatusCode.NOT_FOUND and "prepare or import it here" in sentence
        assert any(line["event"] == "cache_damaged" for line in server.log)
        assert await prepare(stub, width=320, height=240) == avatar
        await Conversation(stub).open(avatar.avatar_id)


async def test_a_bundle_makes_a_second_server_warm() -> None:
    async with (
        inference_server() as here,
        inference_server(engine_settings={"look_ahead_ms": 0}) as there,
        connect(here) as one,
        connect(there) as two,
    ):
        avatar = await prepare(one, width=320, height=240)
        bundle = [c async for c in one.ExportAvatar(pb.ExportAvatarRequest(avatar_id=avatar.avatar_id))]
        imported = await two.ImportAvatar(iter(bundle))
        assert imported.avatar == avatar
        await Conversation(two).open(avatar.avatar_id)
        whole = b"".join(c.data for c in bundle)
        for broken in (
            whole[:-1],
            whole + b"x",
            b"nonsense",
            b"",
            whole[:200],
            whole.replace(b"frames", b"../../"),
        ):
            pieces = [broken[at : at + 1_000_000] for at in range(0, len(broken) or 1, 1_000_000)]
            code, sentence = await refusal(two.ImportAvatar(iter(pb.BundleChunk(data=p) for p in pieces)))
            assert code == grpc.StatusCode.INVALID_ARGUMENT and "bundle is damaged" in sentence, sentence


async def test_sizes_and_rates() -> None:
    settings = {"loop_frames": 30}
    async with inference_server(engine_settings=settings) as address, connect(address) as stub:
        for width, height, fps in ((512, 512, 25), (640, 480, 30), (1280, 720, 25), (300, 300, 30)):
            avatar = await prepare(stub, width=width, height=height, fps=pb.FrameRate(num=fps))
            talk = Conversation(stub)
            rate = pb.FrameRate(num=fps, den=1)
            opened = await talk.open(avatar.avatar_id, width=width, height=height, fps=rate)
            assert (opened.avatar.width, opened.avatar.height, opened.avatar.fps.num) == (width, height, fps)
            await talk.say(voice(8000))
            frames, _ = await talk.collect()
            assert len(frames) == -(-8000 * fps // 16_000) + 3
            body = await body_of(stub, avatar)
            card = read_card(shown(frames[3], body))
            assert card is not None and card.mouth is not None and card.mouth.frame == 3
            talk.call.cancel()
