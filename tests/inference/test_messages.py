"""Messages over gRPC: large ones cost the server little, and pictures of any size come in pieces."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import cv2
import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from inference_server.errors import RequestError
from inference_server.frontends import grpc as frontend
from inference_server.frontends import receiving
from inference_server.frontends.receiving import Receiving
from tests.contract.test_bytes import recorded
from tests.support.avatar_client import Conversation, connect, prepare, refusal
from tests.support.fake_server import FakeServer, avatar
from tests.support.servers import running_server
from visavis import AvatarClient, AvatarSource, errors, portraits
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client.wire import PIECE, pieces_of

INVALID = grpc.StatusCode.INVALID_ARGUMENT
SERVICE = "/visavis.avatar.v1.AvatarService/"
MIB = 1 << 20


def photo(side: int = 1400) -> bytes:
    """A PNG of 5.9 MB, larger than one message."""
    picture = np.random.default_rng(7).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.imencode(".png", picture)[1].tobytes()


class Sender:
    """A call whose client sends when it is told to."""

    def __init__(self) -> None:
        self.asked = False
        self._sent: asyncio.Queue[Any] = asyncio.Queue()

    async def read(self) -> Any:
        self.asked = True
        return await self._sent.get()

    def send(self, message: Any) -> None:
        self._sent.put_nowait(message)


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_of_each_client_few_first_messages_are_received_at_once() -> None:
    taking, calls = Receiving(), [Sender() for _ in range(receiving.AT_ONCE + 5)]
    tasks = [asyncio.create_task(taking.first(call, "many")) for call in calls]
    await settle()
    assert sum(call.asked for call in calls) == receiving.AT_ONCE
    other = Sender()
    other.send("hello")
    assert await taking.first(other, "other") == "hello"
    calls[0].send("here")
    await settle()
    assert sum(call.asked for call in calls) == receiving.AT_ONCE + 1
    for call in calls[1:]:
        call.send("here")
    assert await asyncio.gather(*tasks) == ["here"] * len(calls)


async def test_who_sends_no_first_message_is_told_and_leaves_the_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(receiving, "RECEIVE_S", 0.02)
    taking = Receiving()
    silent = [taking.first(Sender(), "silent", "Open") for _ in range(receiving.AT_ONCE * 2)]
    for told in await asyncio.gather(*silent, return_exceptions=True):
        assert isinstance(told, RequestError) and told.kind == "deadline_exceeded"
        assert told.sentence == "No Open came within 0.02 s: send it first, at once."
    ended = Sender()
    ended.send(grpc.aio.EOF)  # type: ignore[attr-defined]
    with pytest.raises(RequestError, match="ended before Open: send Open first"):
        await taking.first(ended, "silent", "Open")


async def test_a_body_that_nobody_reads_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frontend, "FRAME_S", 0.01)

    class Deaf:
        async def write(self, message: Any) -> None:
            await asyncio.Event().wait()

    with pytest.raises(RequestError, match="Nothing was read") as refused:
        await frontend._taken(Deaf(), pb.BodyFrame())
    assert refused.value.kind == "deadline_exceeded"


def test_pieces_are_the_whole_in_order() -> None:
    for size in (0, 1, PIECE, PIECE + 1, 3 * PIECE + 5):
        source = AvatarSource(bytes(range(251)) * (size // 251 + 1), video=size % 2 == 0)
        source = AvatarSource(source.image[:size], 320, 240, settings={"a": "b"}, video=source.video)
        first, *others = pieces_of(source)
        assert (first.width, first.height, dict(first.settings)) == (320, 240, {"a": "b"})
        kinds = {each.WhichOneof("source") for each in (first, *others)}
        assert kinds == {"video" if source.video else "image"}
        assert all(not each.width and not each.settings for each in others)
        assert b"".join(each.video or each.image for each in (first, *others)) == source.image
        assert all(each.ByteSize() < PIECE + 100 for each in (first, *others))


# --- with a real server ---------------------------------------------------------------------------------------


def memory(pid: int, name: str) -> int:
    """Bytes: VmRSS now, or VmHWM at most."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith(name))) * 1024


async def one_message(stub: Any, avatar_id: str, data: bytes, *, opened: bool) -> None:
    """A stream with these bytes as its first message, or as the first after Open."""
    call = stub.channel.stream_stream(SERVICE + "Converse")(metadata=stub.metadata)
    with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
        if opened:
            await call.write(pb.ConverseRequest(open=pb.Open(avatar_id=avatar_id)).SerializeToString())
            await call.read()
        await call.write(data)
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass


@pytest.mark.process
async def test_large_messages_of_many_streams_cost_the_front_little() -> None:
    async with running_server() as server, connect(server.address) as stub:
        made = await prepare(stub, width=320, height=240)
        before = memory(server.pid, "VmRSS")
        Path(f"/proc/{server.pid}/clear_refs").write_text("5")
        for size in (12 * MIB, 2 * MIB - 100):
            data = pb.ConverseRequest(audio=pb.Audio(turn_id=1, pcm=bytes(size))).SerializeToString()
            for opened in (True, False):
                streams = (one_message(stub, made.avatar_id, data, opened=opened) for _ in range(30))
                await asyncio.gather(*streams)
        assert memory(server.pid, "VmHWM") - before < 120 * MIB


@pytest.mark.process
async def test_requests_that_ask_by_name_are_short() -> None:
    async with running_server() as server, connect(server.address) as stub:
        long = "x" * 10_000
        for name in ("FetchBody", "ExportAvatar"):
            call = getattr(stub, name)(getattr(pb, f"{name}Request")(avatar_id=long))
            code, told = await refusal(call)
            assert code is INVALID and "at most 4096 are taken here" in told, name
        health = health_pb2_grpc.HealthStub(stub.channel)
        for asked in (health.Check, health.Watch):
            code, told = await refusal(asked(health_pb2.HealthCheckRequest(service=long)))
            assert code is INVALID and "at most 4096" in told
        assert (await health.Check(health_pb2.HealthCheckRequest())).status == 1
        watch = health.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == 1
        watch.cancel()


@pytest.mark.process
async def test_a_picture_larger_than_a_message_comes_in_pieces() -> None:
    image = photo()
    assert len(image) > 2 * MIB
    async with running_server() as server, AvatarClient(server.address) as client:
        steps: list[float] = []
        made = await client.prepare(image, 128, 96, progress=steps.append)
        assert (made.width, made.height) == (128, 96) and steps[-1] == 1.0
        assert await client.prepare(image, 128, 96) == made
        async with connect(server.address) as stub:  # whole, from a client of before
            whole = pb.PrepareAvatarRequest(image=image, width=128, height=96)
            code, told = await refusal(stub.PrepareAvatar(whole))
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "larger than max" in told and "vs. 2097152" in told
    async with running_server(message_bytes=8 * MIB) as server, connect(server.address) as stub:
        again = await prepare(stub, image, width=128, height=96)
        assert again.avatar_id == made.avatar_id


async def upload(stub: Any, *requests: bytes) -> tuple[grpc.StatusCode, str]:
    """How an upload of these messages is refused."""
    call = stub.channel.stream_stream(SERVICE + "UploadAvatar")(metadata=stub.metadata)
    assert await call.read() == b""  # progress 0: send
    for each in requests:
        await call.write(each)
    await call.done_writing()

    async def answers() -> None:
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass

    return await refusal(answers())


def files_below(folder: Path) -> list[Path]:
    return list((folder / "tmp").rglob("file"))


@pytest.mark.process
async def test_uploads_that_are_refused_say_why_and_leave_nothing(tmp_path: Path) -> None:
    async with (
        running_server(image_bytes=MIB, cache_dir=tmp_path) as server,
        connect(server.address) as stub,
    ):
        image = pb.PrepareAvatarRequest(image=bytes(MIB // 2)).SerializeToString()
        for requests, sentence in (
            ([], "ended before its request"),
            ([b""], "The image is empty"),
            ([image], "not a picture"),
            ([image] * 40, "at most 1048576 are taken: send a smaller one"),
            ([image, b"\x0a\xff"], "not a valid message"),
            ([b"\x0a\xff", image], "not a valid message"),
            ([pb.PrepareAvatarRequest(fit=17).SerializeToString(), image], "fit 17 is unknown"),  # type: ignore[arg-type]
        ):
            code, told = await upload(stub, *requests)
            assert code is INVALID and sentence in told, (sentence, told)
        with pytest.raises(errors.InvalidRequest, match="at most 1048576 are taken"):
            async with AvatarClient(server.address) as client:
                await client.prepare(photo(), 128, 96)
        broken = stub.channel.stream_stream(SERVICE + "UploadAvatar")(metadata=stub.metadata)
        await broken.read()
        await broken.write(image)
        broken.cancel()
        async with asyncio.timeout(20):
            while files_below(tmp_path):
                await asyncio.sleep(0.02)
        await prepare(stub, width=128, height=96)


# --- clients and servers of before ----------------------------------------------------------------------------


@pytest.mark.process
async def test_a_client_of_before_prepares_portraits_whole() -> None:
    """With the bytes that it sends, and the largest portrait that it comes with."""
    largest = max(Path(portraits.__file__).parent.glob("*.png"), key=lambda path: path.stat().st_size)
    async with running_server() as server, connect(server.address) as stub:
        made = await prepare(stub, largest.read_bytes(), width=128, height=96)
        talk = Conversation(stub)
        await talk.open(made.avatar_id)
        talk.call.cancel()
        ask = stub.channel.unary_stream(SERVICE + "PrepareAvatar")
        code, told = await refusal(ask(recorded("grpc portrait"), metadata=stub.metadata))
        assert code is INVALID and "not a picture in a known format" in told


class Before(FakeServer):
    """Its ``PrepareAvatar`` writes down what it was sent."""

    asked: bytes = b""

    async def PrepareAvatar(self, request: Any, context: Any) -> AsyncIterator[pb.PrepareAvatarProgress]:
        self.asked = request
        message = pb.PrepareAvatarRequest.FromString(request)
        if message.image == b"image of nobody":
            await context.abort(INVALID, "there is no face in it")
        yield pb.PrepareAvatarProgress(progress=0.5)
        yield pb.PrepareAvatarProgress(progress=1.0, avatar=avatar())


@contextlib.asynccontextmanager
async def server_of_before() -> AsyncIterator[tuple[Before, str]]:
    """Its table of methods has no ``UploadAvatar``."""
    fake = Before()
    prepares = grpc.unary_stream_rpc_method_handler(
        fake.PrepareAvatar, response_serializer=lambda message: message.SerializeToString()
    )
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)])
    table = grpc.method_handlers_generic_handler(SERVICE.strip("/"), {"PrepareAvatar": prepares})
    server.add_generic_rpc_handlers((table,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield fake, f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def test_a_server_of_before_gets_the_picture_whole() -> None:
    async with server_of_before() as (fake, address), AvatarClient(address) as client:
        steps: list[float] = []
        image = bytes(9 * MIB)
        made = await client.prepare(image, 512, 512, progress=steps.append)
        assert made.avatar_id == "anna" and steps == [0.5, 1.0]
        assert pb.PrepareAvatarRequest.FromString(fake.asked).image == image
        with pytest.raises(errors.InvalidRequest, match="there is no face in it"):
            await client.prepare(b"image of nobody", 512, 512)
