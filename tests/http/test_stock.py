"""RoomKit's stock wire protocol: a plain client that does what ``WebSocketAvatarProvider`` (0.109) does."""

from __future__ import annotations

import asyncio
import base64
import struct
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.avatar_client import portrait, voice
from tests.support.credentials import FLEET_TOKEN
from tests.support.portraits import IRIS
from tests.support.servers import InferenceServer, running_server
from tests.support.vowels import vowels

pytestmark = pytest.mark.process

PATIENCE_S = 30.0
SIDE = 128


class Stock:
    """Blocking, one connection, 1 MiB a message, deflate on offer: as the stock client is."""

    def __init__(self, server: InferenceServer, name: str = "") -> None:
        self.base = f"http://{name}:{FLEET_TOKEN}@127.0.0.1:{server.http_port}"
        self.ws: ClientConnection | None = None
        self.http = httpx.Client(timeout=PATIENCE_S)

    def start(self, image: bytes, width: int = SIDE, height: int = SIDE, rate: int = 16000) -> httpx.Response:
        about: dict[str, Any] = {
            "reference_image": base64.b64encode(image).decode(),
            "width": width,
            "height": height,
            "sample_rate": rate,
        }
        return self.http.post(f"{self.base}/start", json=about)

    def feed(self, pcm: bytes) -> list[np.ndarray[Any, Any]]:
        if self.ws is None:
            self.ws = connect("ws" + self.base[4:] + "/ws/stream", close_timeout=2).__enter__()
        self.ws.send(pcm)
        frames = []
        while True:
            message = self.ws.recv(timeout=PATIENCE_S)
            assert isinstance(message, bytes)
            if not message:
                return frames
            frames.append(unpack(message))

    def idle(self) -> np.ndarray[Any, Any]:
        return unpack(self.http.get(f"{self.base}/idle_frame").raise_for_status().content)

    def drop(self) -> None:
        if self.ws is not None:
            self.ws.close()
            self.ws = None

    def stop(self) -> None:
        self.drop()
        self.http.post(f"{self.base}/stop").raise_for_status()
        self.http.close()


def unpack(message: bytes) -> np.ndarray[Any, Any]:
    width, height = struct.unpack("!HH", message[:4])
    return np.frombuffer(message, np.uint8, offset=4).reshape(height, width, 3)


def talk(stock: Stock, pcm: np.ndarray[Any, Any], size: int = 640) -> list[np.ndarray[Any, Any]]:
    frames = []
    for at in range(0, len(pcm), size):
        frames += stock.feed(pcm[at : at + size].tobytes())
    return frames


async def test_the_stock_client_starts_idles_speaks_flushes_and_stops() -> None:
    async with running_server(slots=2) as server:

        def call() -> None:
            stock = Stock(server)
            assert stock.start(portrait()).json() == {"fps": 30}
            broken = base64.encodebytes(portrait()).decode()  # a line break after every 76 characters
            again = stock.http.post(
                f"{stock.base}/start", json={"reference_image": broken, "width": SIDE, "height": SIDE}
            )
            assert again.json() == {"fps": 30}
            rest = stock.idle()
            assert rest.shape == (SIDE, SIDE, 3)
            pcm = voice(16_000)
            frames = talk(stock, pcm)
            assert 26 <= len(frames) <= 30
            assert sum((f != rest).any() for f in frames) > 20
            frames += stock.feed(b"")
            assert len(frames) > 30  # the rest of the second, and the mouth closes
            assert stock.feed(b"") == []
            assert stock.feed(pcm[:32000].tobytes())  # a chunk of a whole second in a new turn
            stock.stop()

        await asyncio.to_thread(call)
        closed = await server.event("stream_closed")
        assert closed["frames"] > 30 and closed["late"] == 0


@pytest.mark.slow
async def test_the_head_moves_otherwise_when_the_same_is_said_again() -> None:
    async with running_server(engine="portrait") as server:

        def call() -> None:
            stock = Stock(server)
            assert stock.start(IRIS.read_bytes()).status_code == 200
            pcm = vowels(6, 16_000)
            turns = [talk(stock, pcm, 16_000) + stock.feed(b"") for _ in range(2)]
            first, again = (np.stack([f[: SIDE // 2] for f in turn[:180]]).astype(int) for turn in turns)
            assert len(first) == len(again) > 170 and (first[0] == again[0]).all()
            assert (np.abs(first - again).mean((1, 2, 3)) > 1).mean() > 0.2
            stock.stop()

        await asyncio.to_thread(call)


async def test_pieces_that_end_in_the_middle_of_a_sample() -> None:
    async with running_server(slots=2) as server:

        def spoken(size: int, tail: bytes = b"") -> list[np.ndarray[Any, Any]]:
            stock = Stock(server)
            assert stock.start(portrait()).is_success
            data, frames = voice(16_000).tobytes() + tail, []
            for at in range(0, len(data), size):
                frames += stock.feed(data[at : at + size])
            frames += stock.feed(b"")
            stock.stop()
            return frames

        def call() -> None:
            whole = spoken(1280)
            for size, tail in ((1281, b""), (999, b"x")):
                frames = spoken(size, tail)
                assert len(frames) == len(whole)
                assert all(np.array_equal(a, b) for a, b in zip(frames, whole, strict=True))

        await asyncio.to_thread(call)


async def test_any_rate_is_resampled() -> None:
    async with running_server(slots=2) as server:

        def call() -> None:
            stock = Stock(server)
            assert stock.start(portrait(), rate=24_000).is_success
            frames = talk(stock, voice(24_000), 480) + stock.feed(b"")
            assert 30 <= len(frames) <= 35
            stock.stop()
            odd = Stock(server)
            assert "sample_rate" in odd.start(portrait(), rate=1).json()["detail"]
            odd.stop()

        await asyncio.to_thread(call)


async def test_two_at_the_same_time_do_not_mix() -> None:
    async with running_server(slots=3) as server:  # 30 pictures a second take a fifth more than a slot
        pcm = [voice(16_000, seed) for seed in (1, 2)]

        def alone(seed: int) -> tuple[Any, list[Any]]:
            stock = Stock(server, f"call-{seed}")
            assert stock.start(portrait(seed)).is_success
            rest, frames = stock.idle(), talk(stock, pcm[seed])
            stock.stop()
            return rest, frames

        wanted = [await asyncio.to_thread(alone, seed) for seed in (0, 1)]

        def together() -> list[tuple[Any, list[Any]]]:
            stocks = [Stock(server, f"call-{seed}") for seed in (0, 1)]
            for seed, stock in enumerate(stocks):
                assert stock.start(portrait(seed)).is_success
            with ThreadPoolExecutor(2) as threads:
                spoken = list(threads.map(talk, stocks, pcm))
            out = [(stock.idle(), frames) for stock, frames in zip(stocks, spoken, strict=True)]
            for stock in stocks:
                stock.stop()
            return out

        got = await asyncio.to_thread(together)
        for (rest, frames), (wanted_rest, wanted_frames) in zip(got, wanted, strict=True):
            assert (rest == wanted_rest).all()
            assert len(frames) == len(wanted_frames)
            assert all((a == b).all() for a, b in zip(frames, wanted_frames, strict=True))
        assert (wanted[0][0] != wanted[1][0]).any()


async def test_without_a_speaking_slot_the_body_moves_and_the_client_never_blocks() -> None:
    async with running_server(slots=1) as server:

        def call() -> None:
            first, second = Stock(server), Stock(server)
            assert first.start(portrait()).is_success
            assert talk(first, voice(3200))
            frames = talk(second, voice(16_000))
            assert len(frames) >= 26
            first.stop()
            second.stop()

        await asyncio.to_thread(call)


async def test_what_cannot_work_is_refused_with_a_sentence() -> None:
    async with running_server(slots=2, image_bytes=100_000) as server:

        def call() -> None:
            stock = Stock(server)
            assert "POST /start first" in stock.http.get(f"{stock.base}/idle_frame").json()["detail"]
            with pytest.raises(ConnectionClosed) as closed:
                stock.feed(b"\0\0")
            assert closed.value.rcvd is not None and closed.value.rcvd.code == 4409
            stock.drop()
            for width, height in ((640, 640), (1280, 720), (592, 592)):
                refused = stock.start(portrait(), width, height)
                assert refused.status_code == 400
                assert (
                    "1048576" in refused.json()["detail"] and "HTTPAvatarProvider" in refused.json()["detail"]
                )
            with pytest.raises(ConnectionClosed) as closed:
                stock.feed(b"\0\0")
            assert closed.value.rcvd is not None and closed.value.rcvd.reason.startswith("592x592 in RGB24")
            stock.drop()
            assert stock.start(portrait(), 590, 590).is_success

            def post(**options: Any) -> str:
                answer = stock.http.post(f"{stock.base}/start", **options)
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.status_code in (400, 413)
                return str(answer.json()["detail"])

            assert "JSON" in post(content=b"{no")
            assert "reference_image" in post(json={"width": 512})
            assert "base64" in post(json={"reference_image": "%%%"})
            assert "base64" in post(json={"reference_image": "AAAAA"})
            assert "base64" in post(json={"reference_image": "ÄÄÄÄ"})
            assert "format" in post(json={"reference_image": "AAAA"})
            assert "bytes" in post(content=b"x" * 200_000)
            assert stock.start(portrait()).is_success
            assert stock.feed(b"\0\0" * 640) is not None
            stock.drop()
            stock.feed(b"\0\0")
            assert stock.ws is not None
            stock.ws.send("text")
            with pytest.raises(ConnectionClosed) as closed:
                stock.ws.recv(timeout=PATIENCE_S)
            assert closed.value.rcvd is not None and "binary PCM" in closed.value.rcvd.reason
            stock.drop()
            stock.stop()

        await asyncio.to_thread(call)
        assert not [line for line in server.log if line["event"] == "internal_error"]
