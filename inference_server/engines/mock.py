"""The mock engine: a test card instead of a face, and the load and fault generator of the server.

Settings (all optional): ``body`` card | loop; ``colour`` RRGGBB of the card; ``loop_frames``; ``version``
(another one is another build); ``look_ahead_ms``;
``closing_frames``; ``buckets`` as 1+2+4; ``silence`` (rms below which a frame is the body); ``cost_ms_batch`` and
``cost_ms_row`` (simulated device time), ``jitter_ms``; ``oom_every`` (every n-th batch is lost);
``crash_after_rows``, ``dead_after_rows``, ``hang_after_rows``;
``busy_fraction`` (a thread that burns this share of a core in Python);
``load_ms``; ``load_error`` (a sentence: it is tried again), ``missing`` (a sentence: it can never load);
``max_avatars``; ``prepare_steps``; ``devices`` (how many it says there are), ``device`` (the one to draw on).
Settings of an avatar: ``number`` (0..65535, else from the body id); ``fault`` prepare | attach | render | reject.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_server.engines import base
from inference_server.engines.card import audio_crc, draw_body, draw_mouth, mouth_rect
from visavis.frames import SAMPLE_RATE, Rect, crop_i420, frame_at, frame_start

LOUDEST = 8000.0  # rms of a full level meter


@dataclass(frozen=True)
class MockSettings:
    """Values of the module's docstring."""

    body: str = "card"
    colour: str = ""
    loop_frames: int = 0  # 0: five seconds
    version: int = 2
    look_ahead_ms: float = 40.0
    history_ms: float = 0.0
    closing_frames: int = 3
    buckets: str = "1+2+4+8"
    silence: float = 30.0
    cost_ms_batch: float = 0.2
    cost_ms_row: float = 0.2
    jitter_ms: float = 0.0
    oom_every: int = 0
    crash_after_rows: int = 0
    dead_after_rows: int = 0
    hang_after_rows: int = 0
    busy_fraction: float = 0.0
    load_ms: float = 0.0
    load_error: str = ""
    missing: str = ""
    max_avatars: int = 0
    prepare_steps: int = 4
    devices: int = 1
    device: int = -1

    @classmethod
    def parse(cls, settings: Mapping[str, str]) -> MockSettings:
        """From text. Raises :class:`~inference_server.engines.base.EngineError` with one clear sentence."""
        values: dict[str, Any] = {}
        kinds: dict[str, Any] = {f.name: type(f.default) for f in dataclasses.fields(cls)}
        for name, text in settings.items():
            if name not in kinds:
                raise base.EngineError(f"The mock engine has no setting {name!r}; it has {', '.join(kinds)}.")
            try:
                values[name] = kinds[name](text)
            except ValueError:
                raise base.EngineError(
                    f"The mock engine's setting {name} must be a number, not {text!r}."
                ) from None
        return cls(**values)


class MockHandle:
    """A card in the engine."""

    def __init__(self, body: base.BodyLoop, number: int, fault: str) -> None:
        self.body = body
        self.number = number
        self.fault = fault
        self._rect = mouth_rect(body.width, body.height)

    @property
    def largest_rect(self) -> Rect:
        """The same for every body frame."""
        return self._rect

    def rect(self, loop_index: int) -> Rect:
        """The same for every body frame."""
        return self._rect


class MockTrack:
    """PCM and what a frame of it says."""

    def __init__(self, handle: MockHandle, fps: Fraction, origin: int, look_ahead: int) -> None:
        self.handle = handle
        self.fps = fps
        self._origin = origin
        self._look_ahead = look_ahead
        self._pcm = bytearray()
        self._ended = False

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More audio."""
        self._pcm += pcm.astype("<i2", copy=False).tobytes()

    def end(self) -> None:
        """No more audio comes."""
        self._ended = True

    def ready(self) -> int:
        """Frames whose audio, and the look-ahead behind it, is there."""
        end = self._origin + len(self._pcm) // 2
        if self._ended:
            return frame_at(end - 1, self.fps) + 1 if end else 0
        usable = end - self._look_ahead
        return frame_at(usable, self.fps) if usable > 0 else 0

    def close(self) -> None:
        """Drop the audio."""
        self._pcm = bytearray()

    def samples(self, frame: int) -> NDArray[np.int16]:
        """The samples that a frame covers, as far as there are any."""
        begin, end = (max(frame_start(k, self.fps) - self._origin, 0) * 2 for k in (frame, frame + 1))
        return np.frombuffer(bytes(self._pcm[begin:end]), "<i2").astype(np.int16, copy=False)


@dataclass
class MockTicket:
    """A batch on the simulated device."""

    finished: float
    results: list[base.Result]


class MockEngine:
    """See the module's docstring."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = s = MockSettings.parse(settings)
        if s.body not in ("card", "loop"):
            raise base.EngineError(f"The mock engine's body is card or loop, not {s.body!r}.")
        self._colour = _yuv(s.colour) if s.colour else None
        self.body_build = f"card-2-{s.colour}-{s.loop_frames}" if s.body == "card" else ""
        self._info = base.EngineInfo(
            name="mock",
            build=hashlib.sha256(f"mock-{s.version}".encode()).hexdigest()[:12],
            look_ahead=int(s.look_ahead_ms * SAMPLE_RATE / 1000),
            history=int(s.history_ms * SAMPLE_RATE / 1000),
            buckets=tuple(sorted(int(b) for b in s.buckets.split("+"))),
            closing_frames=s.closing_frames,
            avatar_settings=("number", "fault"),
        )
        self._random = random.Random(1)
        self._device_free = 0.0
        self._batches = 0
        self._rows = 0
        self._attached: list[MockHandle] = []
        self._closed = threading.Event()

    @property
    def info(self) -> base.EngineInfo:
        """Constant."""
        return self._info

    @property
    def devices(self) -> list[base.Device]:
        """As many as it was told, to a process that was not told which is its own."""
        names = range(self.settings.devices if self.settings.device < 0 else 0)
        return [base.Device(f"card:{n}", {"device": str(n)}) for n in names]

    def load(self, progress: base.Progress) -> None:
        """Takes ``load_ms``."""
        for step in range(4):
            progress(step / 4, "drawing the test card")
            time.sleep(self.settings.load_ms / 4000)
        if self.settings.load_error:
            raise base.EngineError(self.settings.load_error)
        if self.settings.missing:
            raise base.ModelMissing(self.settings.missing)
        if self.settings.busy_fraction > 0:
            threading.Thread(target=self._burn, daemon=True).start()

    def make_body(
        self, image: NDArray[np.uint8], *, body_id: str, width: int, height: int, fps: Fraction
    ) -> Iterator[float | base.BodyLoop]:
        """The card as a body loop; what the picture shows does not matter, only its digest in ``body_id``."""
        length = self.settings.loop_frames or round(5 * fps)
        number = int(body_id[:4], 16)
        frames = np.empty((length, height * 3 // 2, width), np.uint8)
        for index in range(length):
            frames[index] = draw_body(width, height, index, length, number, self._colour)
            yield index / length
        motion = np.zeros((length, 2, 3), np.float32)
        motion[:, 0, 0] = motion[:, 1, 1] = 1
        reference = np.full((height, width, 3), 128, np.uint8)
        landmarks = np.zeros((length, 468, 2), np.float32)
        digest = hashlib.sha256(frames.data).digest()
        yield base.BodyLoop(body_id, width, height, fps, frames, landmarks, motion, reference, (), digest)

    def prepare(self, body: base.BodyLoop, settings: Mapping[str, str]) -> Iterator[float | base.Prepared]:
        """Only the number and the fault."""
        fault = settings.get("fault", "")
        if fault == "reject":
            raise base.ImageRejected("The mock engine was told to reject this picture.")
        try:
            number = int(settings.get("number") or int(body.body_id[:4], 16))
        except ValueError:
            raise base.ImageRejected("The mock engine's avatar setting number must be 0 to 65535.") from None
        for step in range(self.settings.prepare_steps):
            yield step / self.settings.prepare_steps
        if fault == "prepare":
            os._exit(3)
        yield base.Prepared({"number": np.array([number], np.int64)}, {"fault": fault})

    def attach(self, prepared: base.Prepared, body: base.BodyLoop) -> MockHandle:
        """At most ``max_avatars``."""
        if self.settings.max_avatars and len(self._attached) >= self.settings.max_avatars:
            raise base.NoMemory(f"The mock engine holds {self.settings.max_avatars} avatars: no more fit.")
        fault = str(prepared.meta.get("fault", ""))
        if fault == "attach":
            os._exit(3)
        handle = MockHandle(body, int(prepared.arrays["number"][0]), fault)
        self._attached.append(handle)
        return handle

    def detach(self, handle: base.Handle) -> None:
        """Let go of it."""
        self._attached = [kept for kept in self._attached if kept is not handle]

    def track(self, handle: base.Handle, fps: Fraction, origin: int) -> MockTrack:
        """A new turn."""
        assert isinstance(handle, MockHandle)
        return MockTrack(handle, fps, origin, self._info.look_ahead)

    def cost_ms(self, rows: int) -> float:
        """Simulated device time of a batch."""
        bucket = next((b for b in self._info.buckets if b >= rows), rows)
        return self.settings.cost_ms_batch + bucket * self.settings.cost_ms_row

    def submit(self, rows: Sequence[base.Row]) -> MockTicket:
        """Draw now, be done when the simulated device is."""
        s = self.settings
        self._batches += 1
        self._rows += len(rows)
        if s.crash_after_rows and self._rows >= s.crash_after_rows:
            os._exit(3)
        if s.dead_after_rows and self._rows >= s.dead_after_rows:
            raise base.EngineDead("The mock engine was told to die.")
        if s.hang_after_rows and self._rows >= s.hang_after_rows:
            time.sleep(3600)
        if s.oom_every and self._batches % s.oom_every == 0:
            raise base.BatchFailed("The mock engine was told to run out of memory.")
        begin = max(time.monotonic(), self._device_free)
        results = [self._draw(row) for row in rows]
        cost = self.cost_ms(len(rows)) + self._random.random() * s.jitter_ms
        self._device_free = begin + cost / 1000
        return MockTicket(self._device_free, results)

    def collect(self, ticket: base.Ticket, wait_s: float) -> list[base.Result] | None:
        """The results, once their time has come."""
        assert isinstance(ticket, MockTicket)
        left = ticket.finished - time.monotonic()
        if left > 0:
            time.sleep(min(left, wait_s))
        return ticket.results if ticket.finished <= time.monotonic() else None

    def memory(self) -> base.Memory:
        """A megabyte a card."""
        return base.Memory(len(self._attached) << 20, 1 << 30)

    def close(self) -> None:
        """Stop burning."""
        self._closed.set()

    def _draw(self, row: base.Row) -> base.Result:
        track = row.track
        assert isinstance(track, MockTrack)
        handle = track.handle
        if handle.fault == "render":
            os._exit(3)
        pcm = track.samples(row.frame)
        rms = float(np.sqrt(np.mean(np.square(pcm, dtype=np.float64)))) if len(pcm) else 0.0
        if rms < self.settings.silence and row.alpha >= 1:
            return base.Result("body")
        rect = handle.rect(row.loop_index)
        out = np.frombuffer(row.out, np.uint8, rect.i420_size)
        draw_mouth(out, rect, row.frame, row.loop_index, handle.number, audio_crc(pcm), rms / LOUDEST)
        if row.alpha < 1:
            body = handle.body
            under = np.frombuffer(
                crop_i420(body.frame(row.loop_index), body.width, body.height, rect), np.uint8
            ).astype(np.float32)
            out[:] = np.rint(under + (out - under) * row.alpha).astype(np.uint8)
        return base.Result("mouth", rect)

    def _burn(self) -> None:
        """Hold the interpreter lock for a share of every 10 ms, as an engine's Python code does."""
        while not self._closed.is_set():
            until = time.monotonic() + 0.01 * self.settings.busy_fraction
            while time.monotonic() < until:
                pass
            time.sleep(0.01 * (1 - self.settings.busy_fraction))


def _yuv(colour: str) -> tuple[int, int, int]:
    """BT.601 limited range of RRGGBB."""
    try:
        r, g, b = bytes.fromhex(colour.removeprefix("#"))
    except ValueError:
        raise base.EngineError(
            f"The mock engine's colour is RRGGBB in hexadecimal, not {colour!r}."
        ) from None
    return (
        round(16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255),
        round(128 + (-37.797 * r - 74.203 * g + 112.0 * b) / 255),
        round(128 + (112.0 * r - 93.786 * g - 18.214 * b) / 255),
    )


__all__ = ["MockEngine"]
