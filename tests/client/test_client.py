"""One server over gRPC: what it is asked, and how it fails."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.avatar_stream import AVATAR, SOURCE, Caller, begin
from tests.support.fake_server import LOOP, FakeServer, body_sha256, fake_server, start
from visavis import errors
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.client.avatar_client import AvatarClient
from visavis.client.body_cache import BodyCache
from visavis.client.grpc import GrpcServerClient
from visavis.client.messages import Anchor, Audio, Open, Playhead, TurnAccepted, TurnStart
from visavis.frames import SAMPLE_RATE


async def test_prepare_fetch_and_errors(tmp_path: Path) -> None:
    async with fake_server() as server, AvatarClient(server.address) as client:
        steps: list[float] = []
        prepared = await client.prepare(b"image", 64, 48, progress=steps.append)
        assert prepared == AVATAR and steps == [0.5, 1.0]
        assert prepared.jumps == ((10, 30),)
        cache = BodyCache(tmp_path)
        body = await client.fetch_body(prepared, cache)
        assert body.frames.shape == (LOOP, 72, 64) and body.frame(7)[0, 0] == 23
        again = await client.fetch_body(prepared, BodyCache(tmp_path))
        assert server.fetches == 1 and (again.frames == body.frames).all()
        assert (await client.capabilities()).limits.window_ms == 400
        with pytest.raises(errors.InvalidRequest, match="the upload is not an image"):
            await client.prepare(b"text")
        with pytest.raises(errors.AvatarUnknown, match="avatar nobody is not prepared here"):
            await client.export_avatar("nobody")
        bundle = await client.export_avatar("anna")
        assert (await client.import_avatar(bundle)).avatar_id == "anna"


async def test_a_client_opens_conversations_on_its_own_server() -> None:
    async with fake_server() as server, AvatarClient(server.address) as client:
        caller = Caller()
        stream = await client.open(AVATAR, body_sha256=body_sha256(), on_event=caller)
        begin(stream)
        await caller.until(lambda: 5 in caller.frames())
        await stream.close()


class Slow(FakeServer):
    """Does not answer what takes long anyway."""

    async def UploadAvatar(self, requests: Any, context: Any) -> AsyncIterator[pb.PrepareAvatarProgress]:
        yield pb.PrepareAvatarProgress()
        await asyncio.sleep(60)

    async def FetchBody(self, request: Any, context: Any) -> AsyncIterator[pb.BodyFrame]:
        await asyncio.sleep(60)
        yield pb.BodyFrame()


@pytest.mark.parametrize("what", ["prepare", "fetch"])
async def test_a_server_whose_name_goes_meanwhile_is_unavailable(what: str, tmp_path: Path) -> None:
    """Its channel is closed: grpc.aio cancels what waits there, and nobody else did."""
    async with fake_server(Slow()) as server:
        client = GrpcServerClient(server.address)
        waits = asyncio.create_task(
            client.prepare_source(SOURCE)
            if what == "prepare"
            else client.fetch_body(AVATAR, BodyCache(tmp_path))
        )
        await asyncio.sleep(0.3)
        await client.close()
        with pytest.raises(errors.ServerUnavailable, match="was closed"):
            await waits


async def test_an_unreachable_server_is_one_clear_sentence() -> None:
    async with AvatarClient("127.0.0.1:1") as client:
        with pytest.raises(
            errors.ServerUnavailable, match=r"the avatar server at 127\.0\.0\.1:1 cannot be used"
        ):
            await client.capabilities()


async def test_a_conversation_whose_write_failed_is_let_go_with_what_was_not_read() -> None:
    """The core tells no status before all that it received is read; nobody does after an error."""
    server = FakeServer()
    running = await start(server)
    async with AvatarClient(server.address) as client:
        link = await client.converse(Open(AVATAR.avatar_id), 5)
        second = bytes(2 * SAMPLE_RATE)
        for request in (TurnStart(1, 1), Audio(1, 1, 0, second), Anchor(1, 1, 0, 0), Playhead(1, 1, 0, True)):
            await link.send(request)
        assert isinstance(await link.receive(), TurnAccepted)  # frames follow, and lie unread
        await running.stop(None)
        with pytest.raises(errors.ServerUnavailable):
            while True:
                await link.send(Playhead(1, 1, 0, True))
        link.cancel()
