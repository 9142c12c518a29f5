"""One batch from rows to I420: packing the inputs, running the device, taking back the rectangles."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from inference_server.engines.base import BatchFailed, Result, Row
from inference_server.engines.musetalk.avatar import ResidentAvatar, Residents
from inference_server.engines.musetalk.composite import Places, composite
from inference_server.engines.musetalk.mel import BANDS
from inference_server.engines.musetalk.network import COLUMNS, PLACES, Runner
from inference_server.engines.musetalk.speech import AudioWindow, Plan, Speech
from visavis.frames import Rect

LANES = 3  # batches whose host memory is in use at once
_ONE = 1 << 16  # alpha and gain travel in the table as integers


class SpeechTrack:
    """The track of one turn: an avatar and what it says."""

    def __init__(self, avatar: ResidentAvatar, speech: Speech) -> None:
        self.avatar = avatar
        self.speech = speech
        self.closed = False

    @property
    def level(self) -> float:
        """How loud it is, for the next turn's :meth:`expect`."""
        return self.speech.level

    def expect(self, level: float) -> None:
        """The :attr:`level` of an earlier turn of the same conversation."""
        self.speech.expect(level)

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More audio."""
        if not self.closed:
            self.speech.append(pcm)

    def end(self) -> None:
        """No more audio comes."""
        self.speech.end()

    def ready(self) -> int:
        """Frames that can be drawn now."""
        return self.speech.ready()

    def close(self) -> None:
        """Rows of it that come later are not drawn."""
        self.closed = True


@dataclass
class _Lane:
    """Host memory of one batch in flight, pinned where there is a GPU."""

    mel: Tensor
    table: Tensor
    out: Tensor
    busy: bool = False


@dataclass(eq=False)
class DeviceBatch:
    """``drawn``: places in ``rows`` of those that were sent to the device. ``size``: the bucket."""

    rows: Sequence[Row]
    results: list[Result]
    drawn: list[int] = field(default_factory=list)
    lane: _Lane | None = None
    size: int = 0
    began: torch.cuda.Event | None = None
    done: torch.cuda.Event | None = None
    milliseconds: float = 0.0


class Batcher:
    """Submits and collects. ``submit`` never waits for a GPU; on the CPU it computes."""

    def __init__(self, runner: Runner, residents: Residents, plan: Plan, dtype: torch.dtype) -> None:
        self._runner = runner
        self._residents = residents
        self._cuda = runner.device.type == "cuda"
        largest = runner.buckets[-1]
        self._lanes = [
            _Lane(
                self._host((largest, BANDS, plan.hops), dtype),
                self._host((largest, COLUMNS + PLACES), torch.int64),
                self._host((0,), torch.uint8),
            )
            for _ in range(LANES)
        ]

    def _host(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        return torch.zeros(shape, dtype=dtype, pin_memory=self._cuda)

    def warm_up(self, size: int) -> None:
        """Place faces once, so that the kernels for it are there."""
        lane, side = self._lanes[0], 64
        table = torch.zeros(size, COLUMNS + PLACES, dtype=torch.int64)
        table[:, COLUMNS + 1 :] = torch.tensor((side, side, 0, 0, side, side, _ONE, _ONE))
        at = _places(table[:, COLUMNS:].to(self._runner.device))
        faces = self._runner.run(lane.mel[:size], table)
        composite(faces, self._residents.plates, at, side, side)
        self._runner.synchronize()

    def reserve(self, nbytes: int) -> None:
        """Rectangles so large will come: pinned memory is taken now, not amid live streams."""
        for lane in self._lanes:
            if not lane.busy and lane.out.numel() < nbytes * self._runner.buckets[-1]:
                lane.out = self._host((nbytes * self._runner.buckets[-1],), torch.uint8)

    def submit(self, rows: Sequence[Row]) -> DeviceBatch:
        """Raises :class:`BatchFailed`, and what the device raises."""
        batch = DeviceBatch(rows, [Result("body")] * len(rows))
        work = self._listen(batch)
        if not work:
            return batch
        batch.size = self._runner.bucket(len(work))
        lane = next((lane for lane in self._lanes if not lane.busy), None)
        if lane is None:
            raise BatchFailed(f"more than {LANES} batches are under way")
        height, width = self._fill(lane, batch, work)
        began = time.perf_counter()
        if self._cuda:
            batch.began = _event()
            batch.began.record()
        faces = self._runner.run(lane.mel[: batch.size], lane.table[: batch.size])
        at = _places(self._runner.table[: len(work), COLUMNS:])
        pixels = composite(faces[: len(work)], self._residents.plates, at, height, width)
        if lane.out.numel() < pixels.numel():
            lane.out = self._host((pixels.numel(),), torch.uint8)
        lane.out[: pixels.numel()].view(pixels.shape).copy_(pixels, non_blocking=True)
        if self._cuda:
            batch.done = _event()
            batch.done.record()
        else:
            batch.milliseconds = (time.perf_counter() - began) * 1000
        lane.busy = True
        batch.lane = lane
        batch.drawn = [place for place, *_ in work]
        return batch

    def _listen(self, batch: DeviceBatch) -> list[tuple[int, ResidentAvatar, AudioWindow, float]]:
        """What each row hears; rows at rest stay ``body`` and cost nothing."""
        work = []
        for place, row in enumerate(batch.rows):
            voice = row.track
            if not isinstance(voice, SpeechTrack) or voice.closed:
                batch.results[place] = Result("failed", error="the turn is closed")
                continue
            try:
                alpha = row.alpha * voice.speech.opening(row.frame)
                if alpha <= 0:
                    continue
                heard = voice.speech.hear(row.frame)
            except ValueError as error:
                batch.results[place] = Result("failed", error=str(error))
                continue
            rect = voice.avatar.rect(row.loop_index)
            if len(row.out) < rect.i420_size:
                batch.results[place] = Result("failed", error="no room for the rectangle's pixels")
                continue
            voice.speech.forget_before(row.frame)
            batch.results[place] = Result("mouth", rect)
            work.append((place, voice.avatar, heard, alpha))
        return work

    def _fill(
        self, lane: _Lane, batch: DeviceBatch, work: list[tuple[int, ResidentAvatar, AudioWindow, float]]
    ) -> tuple[int, int]:
        """Inputs of the rows, the last one again up to the bucket's size. Returns the largest rectangle."""
        table = lane.table.numpy()
        height = width = 0
        for n in range(batch.size):
            place, avatar, heard, alpha = work[min(n, len(work) - 1)]
            lane.mel[n].copy_(torch.from_numpy(heard.mel.T))
            stored = avatar.stored(batch.rows[place].loop_index)
            rect, box = avatar.rects[stored], avatar.boxes[stored]
            plate = avatar.plate + stored * avatar.plate_bytes
            table[n] = (
                *(heard.first, heard.position, *heard.valid, heard.missing, avatar.latent + stored),
                *(plate, rect.width, rect.height, rect.x - box[0], rect.y - box[1]),
                *(box[2] - box[0], box[3] - box[1], round(alpha * _ONE), round(avatar.gain * _ONE)),
            )
            height, width = max(height, rect.height), max(width, rect.width)
        return height, width

    def collect(self, batch: DeviceBatch, wait_s: float) -> list[Result] | None:
        """Copies the rectangles to the rows' buffers; ``None`` while the device is not done."""
        lane = batch.lane
        if lane is None:
            return batch.results
        if batch.done is not None and not _wait(batch.done, wait_s):
            return None
        if batch.done is not None and batch.began is not None:
            batch.milliseconds = batch.began.elapsed_time(batch.done)
        pixels = lane.out.numpy()
        stride = _stride(batch)
        for n, place in enumerate(batch.drawn):
            size = _size(batch.results[place].rect)
            start = n * stride
            batch.rows[place].out[:size] = pixels[start : start + size].data
        lane.busy = False
        batch.lane = None
        return batch.results


def _stride(batch: DeviceBatch) -> int:
    """Bytes from one row's pixels to the next's: the batch's largest rectangle."""
    rects = [r for place in batch.drawn if (r := batch.results[place].rect) is not None]
    return max(r.height for r in rects) * max(r.width for r in rects) * 3 // 2


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _size(rect: Rect | None) -> int:
    return 0 if rect is None else rect.i420_size


def _places(t: Tensor) -> Places:
    plate, width, height, left, top, box_width, box_height, alpha, gain = t.unbind(1)
    places = plate, width, height, left, top, box_width, box_height
    return Places(*places, alpha.float() / _ONE, gain.float() / _ONE)


def _wait(event: torch.cuda.Event, wait_s: float) -> bool:
    """Whether the event has happened within ``wait_s``. Looks every 100 µs: sleeping in the driver would keep
    the lock that the process needs."""
    until = time.monotonic() + wait_s
    while not event.query():  # type: ignore[no-untyped-call]
        if time.monotonic() >= until:
            return False
        time.sleep(0.0001)
    return True
