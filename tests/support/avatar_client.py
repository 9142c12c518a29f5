"""A plain client of the contract for tests: generated stubs, a portrait of noise, a voice of tones."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import cv2
import grpc
import numpy as np
from numpy.typing import NDArray

from tests.support.credentials import SignedStub
from visavis.avatar.v1 import avatar_pb2 as pb
from visavis.avatar.v1 import avatar_pb2_grpc

PATIENCE_S = 30.0


def portrait(seed: int = 0, side: int = 96) -> bytes:
    """A PNG file; another one for every seed."""
    picture = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return cv2.imencode(".png", picture)[1].tobytes()


def voice(samples: int, seed: int = 0) -> NDArray[np.int16]:
    """Loud noise that no other seed makes."""
    return np.random.default_rng(seed).integers(-9000, 9000, samples, np.int16)


@contextlib.asynccontextmanager
async def connect(address: str) -> AsyncIterator[Any]:
    """The stub of a server."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        stub: Any = SignedStub(avatar_pb2_grpc.AvatarServiceStub(channel))
        stub.channel = channel
        yield stub


async def prepare(stub: Any, image: bytes | None = None, **fields: Any) -> pb.Avatar:
    """Prepare and return the avatar."""
    request = pb.PrepareAvatarRequest(image=portrait() if image is None else image, **fields)
    async for progress in stub.PrepareAvatar(request, timeout=PATIENCE_S):
        if progress.HasField("avatar"):
            avatar: pb.Avatar = progress.avatar
            return avatar
    raise AssertionError("no avatar came")


class Conversation:
    """One Converse stream."""

    def __init__(self, stub: Any) -> None:
        self.call = stub.Converse()
        self.opened = pb.Opened()

    async def open(self, avatar_id: str, **fields: Any) -> pb.Opened:
        """Open and wait for Opened."""
        await self.send(open=pb.Open(avatar_id=avatar_id, **fields))
        response = await self.read()
        assert response is not None and response.HasField("opened"), response
        self.opened = response.opened
        return self.opened

    async def send(self, **message: Any) -> None:
        """One request."""
        await self.call.write(pb.ConverseRequest(**message))

    async def read(self) -> pb.ConverseResponse | None:
        """The next response, ``None`` at the end; raises ``AioRpcError`` where the server ended with an error."""
        response = await asyncio.wait_for(self.call.read(), PATIENCE_S)
        return None if response is grpc.aio.EOF else response  # type: ignore[attr-defined]

    async def wait(self, kind: str) -> Any:
        """Skip to the next response of a kind."""
        while (response := await self.read()) is not None:
            if response.WhichOneof("message") == kind:
                return getattr(response, kind)
        raise AssertionError(
            f"the stream ended before {kind}: {await self.call.code()} {await self.call.details()}"
        )

    async def say(
        self, pcm: NDArray[np.int16], turn_id: int = 1, epoch: int = 0, loop_index: int = 0, end: bool = True
    ) -> None:
        """A turn in messages of 20 ms, as fast as they go."""
        await self.send(turn_start=pb.TurnStart(turn_id=turn_id, epoch=epoch))
        await self.send(anchor=pb.Anchor(turn_id=turn_id, epoch=epoch, loop_index=loop_index))
        for at in range(0, len(pcm), 320):
            chunk = pcm[at : at + 320].astype("<i2").tobytes()
            await self.send(audio=pb.Audio(turn_id=turn_id, epoch=epoch, first_sample=at, pcm=chunk))
        if end:
            await self.send(end_of_turn=pb.EndOfTurn(turn_id=turn_id, epoch=epoch))

    async def collect(self, turn_id: int = 1, epoch: int = 0) -> tuple[list[pb.Frame], pb.TurnFinished]:
        """Frames until the turn is finished; the playhead follows what has come."""
        frames: list[pb.Frame] = []
        while (response := await self.read()) is not None:
            kind = response.WhichOneof("message")
            if kind == "frame":
                frames.append(response.frame)
                await self.send(
                    playhead=pb.Playhead(
                        turn_id=turn_id,
                        epoch=epoch,
                        audio_sample=response.frame.audio_sample - 640,
                        playing=True,
                    )
                )
                if response.frame.last:
                    head = pb.Playhead(
                        turn_id=turn_id, epoch=epoch, audio_sample=response.frame.audio_sample, playing=True
                    )
                    await self.send(playhead=head)
            elif kind == "turn_finished":
                return frames, response.turn_finished
        raise AssertionError(f"the stream ended: {await self.call.code()} {await self.call.details()}")


async def refusal(work: Any) -> tuple[grpc.StatusCode, str]:
    """The status and the sentence that a request, a stream or a conversation ends with."""
    try:
        if hasattr(work, "__aiter__"):
            async for _ in work:
                pass
        else:
            await work
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("it was not refused")
