"""A plain client of the HTTP face for tests: one socket, and a refusal read off it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.support.credentials import FLEET
from tests.support.servers import InferenceServer
from visavis.client.http_wire import AUDIO, frame_from, opened_from
from visavis.client.model import Opened
from visavis.frames import Frame

PATIENCE_S = 30.0


def url(server: InferenceServer, path: str = "") -> str:
    """Of the HTTP face."""
    return f"http://127.0.0.1:{server.http_port}{path}"


@asynccontextmanager
async def client(server: InferenceServer, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Requests to one server."""
    options = {"headers": FLEET} | options
    async with httpx.AsyncClient(base_url=url(server), timeout=PATIENCE_S, **options) as http:
        yield http


@asynccontextmanager
async def socket(
    server: InferenceServer, path: str = "/v1/converse", **options: Any
) -> AsyncIterator[ClientConnection]:
    """A socket as a client opens it."""
    options = {
        "compression": None,
        "max_size": None,
        "open_timeout": PATIENCE_S,
        "additional_headers": FLEET,
    } | options
    async with connect(f"ws://127.0.0.1:{server.http_port}{path}", **options) as ws:
        yield ws


class Talk:
    """One conversation over a socket."""

    def __init__(self, ws: ClientConnection) -> None:
        self.ws = ws
        self.opened: Opened | None = None

    async def open(self, avatar_id: str, **fields: Any) -> Opened:
        await self.send("open", avatar_id=avatar_id, **fields)
        self.opened = opened_from(await self.wait("opened"))
        return self.opened

    async def send(self, kind: str, **fields: Any) -> None:
        await self.ws.send(json.dumps({"type": kind, **fields}))

    async def read(self) -> Frame | dict[str, Any]:
        data = await asyncio.wait_for(self.ws.recv(), PATIENCE_S)
        if isinstance(data, bytes):
            assert self.opened is not None
            return frame_from(data, self.opened)
        message: dict[str, Any] = json.loads(data)
        return message

    async def wait(self, kind: str) -> dict[str, Any]:
        """Skip to the next text message of a kind."""
        while True:
            message = await self.read()
            if isinstance(message, dict) and message["type"] == kind:
                return message

    async def say(
        self, pcm: NDArray[np.int16], turn_id: int = 1, epoch: int = 0, loop_index: int = 0, end: bool = True
    ) -> None:
        """A turn in messages of 20 ms, as fast as they go."""
        await self.send("turn_start", turn_id=turn_id, epoch=epoch)
        await self.send("anchor", turn_id=turn_id, epoch=epoch, audio_sample=0, loop_index=loop_index)
        for at in range(0, len(pcm), 320):
            chunk = pcm[at : at + 320].astype("<i2").tobytes()
            await self.ws.send(AUDIO.pack(1, 0, 0, epoch, turn_id, at) + chunk)
        if end:
            await self.send("end_of_turn", turn_id=turn_id, epoch=epoch)

    async def collect(self, turn_id: int = 1, epoch: int = 0) -> tuple[list[Frame], dict[str, Any]]:
        """Frames until the turn is finished; the playhead follows what has come."""
        frames: list[Frame] = []
        while True:
            message = await self.read()
            if isinstance(message, Frame):
                frames.append(message)
                head = message.sample - (0 if message.last else 640)
                await self.send("playhead", turn_id=turn_id, epoch=epoch, audio_sample=head, playing=True)
            elif message["type"] == "turn_finished":
                return frames, message


async def refusal(ws: ClientConnection) -> tuple[dict[str, Any], int, str]:
    """The error message, the close code and the reason that a socket ends with."""
    error: dict[str, Any] = {}
    try:
        while True:
            data = await asyncio.wait_for(ws.recv(), PATIENCE_S)
            if isinstance(data, str) and json.loads(data)["type"] == "error":
                error = json.loads(data)
    except ConnectionClosed as closed:
        assert closed.rcvd is not None
        return error, closed.rcvd.code, closed.rcvd.reason
