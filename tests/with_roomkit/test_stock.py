"""RoomKit's own ``WebSocketAvatarProvider``, as it comes, against our server."""

from __future__ import annotations

import asyncio
import base64
import time

import httpx
import numpy as np
import pytest
from roomkit.video.avatar.websocket import WebSocketAvatarProvider

from testing.card import read_card
from tests.support.credentials import FLEET_TOKEN
from tests.support.house import picture, tone
from tests.support.servers import InferenceServer, running_server

pytestmark = [pytest.mark.peer, pytest.mark.process, pytest.mark.slow, pytest.mark.filterwarnings("default")]


def url_of(server: InferenceServer, name: str) -> str:
    """What the provider is given: a name for its portrait, and the token."""
    return f"http://{name}:{FLEET_TOKEN}@127.0.0.1:{server.http_port}"


async def talk(server: InferenceServer, seed: int, size: int = 320) -> tuple[int, list[int], float]:
    """The avatar's number, the mouths it showed for three seconds of speech, and ms per picture."""
    face = WebSocketAvatarProvider(base_url=url_of(server, f"call-{seed}"), fps=30)
    await face.start(picture(seed), width=size, height=size)
    try:
        idle = await asyncio.to_thread(face.get_idle_frame)
        assert idle is not None and (idle.width, idle.height) == (size, size)
        began, frames, sound = time.monotonic(), [], tone(3)
        for at in range(0, len(sound), 1600):
            frames += await asyncio.to_thread(face.feed_audio, sound[at : at + 1600].tobytes(), 16_000)
        frames += await asyncio.to_thread(face.flush)
        took = time.monotonic() - began
        cards = [read_card(np.frombuffer(f.data, np.uint8).reshape(f.height, f.width, 3)) for f in frames]
        first = read_card(np.frombuffer(idle.data, np.uint8).reshape(size, size, 3))
        assert first is not None and all(c is not None and c.number == first.number for c in cards)
        return first.number, [c.mouth.frame for c in cards if c and c.mouth], took * 1000 / len(frames)
    finally:
        await face.stop()


async def test_the_stock_client_speaks() -> None:
    async with running_server() as server:
        _, mouths, ms = await talk(server, 1)
        print(f"stock protocol: {ms:.1f} ms per picture of 320x320")
        assert len(mouths) >= 80 and mouths == sorted(mouths)


async def test_two_of_them_do_not_mix() -> None:
    async with running_server() as server:
        (one, first, _), (two, second, _) = await asyncio.gather(talk(server, 1), talk(server, 2))
        assert one != two
        assert len(first) >= 80 and len(second) >= 80


async def test_a_size_that_the_client_cannot_take_is_refused() -> None:
    """With a sentence that only the server's answer carries: the client keeps it to itself and shows nothing."""
    async with running_server() as server:
        url = url_of(server, "large")
        order = {"reference_image": base64.b64encode(picture(1)).decode(), "width": 1280, "height": 720}
        async with httpx.AsyncClient() as client:
            answer = await client.post(f"{url}/start", json=order | {"sample_rate": 16000})
        assert answer.status_code == 400 and "HTTPAvatarProvider" in answer.text
        face = WebSocketAvatarProvider(base_url=url, fps=30)
        await face.start(picture(1), width=1280, height=720)
        assert await asyncio.to_thread(face.get_idle_frame) is None
        await face.stop()
