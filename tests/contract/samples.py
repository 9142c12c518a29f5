"""One value of every message of the contract, and the halves of a server that the frontends need to tell them."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from inference_server.avatars.store import StoredAvatar
from inference_server.engines.base import BodyLoop
from inference_server.errors import unavailable
from inference_server.settings import Settings
from inference_server.streams.pictures import Pictures
from inference_server.streams.responses import FrameReady, Response
from inference_server.streams.stream import Stream
from inference_server.uploads import Uploads
from visavis.client import messages as m
from visavis.client.model import AvatarSource
from visavis.frames import Rect

WIDTH, HEIGHT, LENGTH = 16, 12, 3
RECT = Rect(4, 2, 6, 4)
PIXELS = bytes(range(RECT.i420_size))
SHA256 = bytes(range(32))
PCM = bytes(range(64))

SOURCES = {
    "portrait": AvatarSource(b"portrait", fps=Fraction(30000, 1001)),
    "clip": AvatarSource(b"clip", 64, 48, Fraction(25), "contain", {"bbox_shift": "5 & 6"}, video=True),
}
OPENS = {
    "open": m.Open("anna", "call-7", SHA256, "whole", "rgb24"),
    "open, with a path": m.Open("anna", follows_path=True),
    "open, as it comes": m.Open("anna"),
}
REQUESTS: dict[str, m.Request] = {
    "turn_start": m.TurnStart(1 << 40, 7, 12_800),
    "turn_start, from 0": m.TurnStart(1, 0),
    "audio": m.Audio(1 << 40, (1 << 32) - 1, 640, PCM),
    "end_of_turn": m.EndOfTurn(1 << 40, 7),
    "anchor": m.Anchor(1 << 40, 7, 640, 2),
    "playhead": m.Playhead(1 << 40, 7, 1280, True),
    "playhead, before": m.Playhead(1, 0, -320, False),
    "interrupt": m.Interrupt(8),
}
RESPONSES: dict[str, Response] = {
    "mouth": FrameReady(1 << 40, 7, 2, 1280, 2, "mouth", RECT, PIXELS),
    "body": FrameReady(1, 0, 0, 0, 0, "body", last=True),
    "turn_accepted": m.TurnAccepted(1 << 40),
    "turn_rejected": m.TurnRejected(1, 'all 4 speaking slots are taken: try "another" sérver'),
    "turn_finished": m.TurnFinished(1, 75, 0),
    "interrupted": m.Interrupted(8),
    "go_away": m.GoAway("the server is draining", 30_000),
    "stats": m.Stats(3, 12, 1),
}


def body(fps: Fraction = Fraction(25)) -> BodyLoop:
    frames = np.arange(LENGTH * WIDTH * HEIGHT * 3 // 2, dtype=np.uint32).astype(np.uint8)
    return BodyLoop(
        "body",
        WIDTH,
        HEIGHT,
        fps,
        frames.reshape(LENGTH, HEIGHT * 3 // 2, WIDTH),
        np.zeros((LENGTH, 468, 2), np.float32),
        np.zeros((LENGTH, 2, 3), np.float32),
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        ((2, 0), (1, 2)),
        SHA256,
        segments=((0, "breath"), (2, "nod")),
    )


def avatar(fps: Fraction = Fraction(25)) -> StoredAvatar:
    return StoredAvatar("anna", Path("anna"), Path("body"), body(fps), "mock", "1a", {})


def stream(pixel_format: Any = "i420", scope: Any = "rectangle", fps: Fraction = Fraction(25)) -> Any:
    """An open stream, as far as its answers need it."""
    stored = avatar(fps)
    return SimpleNamespace(
        avatar=stored,
        pictures=Pictures(stored.body, pixel_format, scope),
        devices=SimpleNamespace(largest_rect=RECT),
        session=SimpleNamespace(parameters=SimpleNamespace(closing_frames=3)),
    )


class Requests(Stream):
    """A stream that writes down what its session was asked."""

    fps = Fraction(25)

    def __init__(self) -> None:
        self.asked: list[list[Any]] = []
        self.session = self.outbox = self.devices = cast(Any, self)

    def __getattr__(self, name: str) -> Any:
        return lambda *args: self.asked.append([name, *args[:-1]])


class Server:
    """What the frontends read of a core."""

    draining = False
    not_ready_reason = ""
    ready = True

    def __init__(self, capacity: Any) -> None:
        self.settings = Settings()
        self.slots = 4
        info = {
            "name": "mock", "build": "1a", "look_ahead": 1601, "history": 48_000, "closing_frames": 3,
            "max_width": 1280, "max_height": 4096,
        }  # fmt: skip
        self.devices = SimpleNamespace(loaded=SimpleNamespace(info=info))
        self.metrics = SimpleNamespace(registry=None)
        self.log = SimpleNamespace(info=lambda *args, **fields: None)
        self.uploads = Uploads(lambda: Path(tempfile.mkdtemp()), lambda error: unavailable(str(error)))
        self.avatars = self
        self._capacity = capacity

    def capacity(self) -> Any:
        return self._capacity

    def check_open_to_new(self) -> None:
        pass

    async def get(self, avatar_id: str) -> Any:
        return avatar()

    async def prepare(self, request: Any) -> AsyncIterator[Any]:
        self.prepared = request
        request.file.discard()
        yield 0.25
        yield avatar(request.fps)
