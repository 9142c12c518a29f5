"""A lip-sync engine of one's own in one file: a mouth that opens with the loudness of the voice.

Run the inference server with it, no packaging needed::

    VISAVIS_INFERENCE_ENGINE=examples.custom_engine:LoudnessEngine python -m inference_server

or name it in a package's entry points, group ``visavis.engines``, and use that name. The interface is
``inference_server/engines/base.py``; ``docs/engines.md`` explains it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.engines import base
from visavis.frames import Rect, crop_i420, frame_start, i420_planes

LIPS = (61, 291, 0, 17)  # FaceMesh: corners, top, bottom
LOUD = 6000.0
QUIET = 120.0


@dataclass
class LoudnessHandle:
    """An avatar: where the mouth is on each body frame, and the body's pixels there."""

    rects: NDArray[np.int32]
    patches: list[bytes]

    @property
    def largest_rect(self) -> Rect:
        """Around all of them."""
        low = self.rects[:, :2].min(0)
        high = (self.rects[:, :2] + self.rects[:, 2:]).max(0)
        return Rect(*(int(v) for v in low), *(int(v) for v in high - low))

    def rect(self, loop_index: int) -> Rect:
        """Of this body frame."""
        return Rect(*(int(v) for v in self.rects[loop_index]))


class LoudnessTrack:
    """The sound of one turn; ``origin`` is the number of its first sample."""

    def __init__(self, handle: LoudnessHandle, fps: Fraction, origin: int) -> None:
        self.handle = handle
        self._fps = fps
        self._origin = origin
        self._pcm = np.zeros(0, np.int16)
        self._ended = False

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More sound."""
        self._pcm = np.concatenate([self._pcm, pcm])

    def end(self) -> None:
        """No more comes."""
        self._ended = True

    def ready(self) -> int:
        """Frames whose sound is there."""
        have, k = self._origin + len(self._pcm), 0
        while frame_start(k + (0 if self._ended else 1), self._fps) < have + (0 if self._ended else 1):
            k += 1
        return k

    def close(self) -> None:
        """Nothing is held elsewhere."""

    def loudness(self, frame: int) -> float:
        """Root mean square of the frame's own samples."""
        start, stop = frame_start(frame, self._fps), frame_start(frame + 1, self._fps)
        part = self._pcm[max(0, start - self._origin) : max(0, stop - self._origin)].astype(np.float64)
        return float(np.sqrt((part**2).mean())) if len(part) else 0.0


class LoudnessEngine:
    """See the module's docstring. ``settings``: ``gain``, default 1."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._gain = float(settings.get("gain", "1"))
        self.info = base.EngineInfo("loudness", "1")

    def load(self, progress: base.Progress) -> None:
        """There are no weights."""
        progress(1.0, "nothing to load")

    def prepare(self, body: base.BodyLoop, settings: Mapping[str, str]) -> Iterator[float | base.Prepared]:
        """A rectangle around the lips of every body frame."""
        rects, pixels = [], []
        for i in range(len(body)):
            x, y = body.landmarks[i][list(LIPS)].T
            wide = float(x.max() - x.min())
            left, right = x.min() - wide * 0.2, x.max() + wide * 0.2
            top, bottom = y.min() - wide * 0.1, y.max() + wide * 0.6
            x0, y0 = max(0, int(left) // 2 * 2), max(0, int(top) // 2 * 2)
            rect = Rect(
                x0,
                y0,
                min(body.width - x0, int(right - left) // 2 * 2),
                min(body.height - y0, int(bottom - top) // 2 * 2),
            )
            rects.append(rect)
            pixels.append(crop_i420(body.frame(i), body.width, body.height, rect))
            yield i / len(body)
        arrays: dict[str, NDArray[Any]] = {
            "rects": np.array(rects, np.int32),
            "pixels": np.frombuffer(b"".join(pixels), np.uint8),
        }
        yield base.Prepared(arrays)

    def attach(self, prepared: base.Prepared, body: base.BodyLoop) -> LoudnessHandle:
        """Cut the pixels apart again."""
        rects = prepared.arrays["rects"]
        ends = np.cumsum([Rect(*(int(v) for v in r)).i420_size for r in rects])
        data = prepared.arrays["pixels"].tobytes()
        starts = [0, *ends[:-1]]
        return LoudnessHandle(rects, [data[a:b] for a, b in zip(starts, ends, strict=True)])

    def detach(self, handle: base.Handle) -> None:
        """Python lets go of it."""

    def track(self, handle: base.Handle, fps: Fraction, origin: int) -> LoudnessTrack:
        """A new turn."""
        assert isinstance(handle, LoudnessHandle)
        return LoudnessTrack(handle, fps, origin)

    def cost_ms(self, rows: int) -> float:
        """About what a row takes."""
        return 0.3 * rows

    def submit(self, rows: Sequence[base.Row]) -> list[base.Result]:
        """Everything is done here; :meth:`collect` only hands it over."""
        return [self._draw(row) for row in rows]

    def collect(self, ticket: base.Ticket, wait_s: float) -> list[base.Result] | None:
        """See :meth:`submit`."""
        assert isinstance(ticket, list)
        return ticket

    def memory(self) -> base.Memory:
        """Nothing worth counting."""
        return base.Memory(0, 1 << 30)

    def close(self) -> None:
        """Nothing to give back."""

    def _draw(self, row: base.Row) -> base.Result:
        track = row.track
        assert isinstance(track, LoudnessTrack)
        level = track.loudness(row.frame) * self._gain
        if level < QUIET:
            return base.Result("body")
        rect = track.handle.rect(row.loop_index)
        pixels = np.frombuffer(track.handle.patches[row.loop_index], np.uint8).copy()
        stretch = 1 + 0.5 * min(1.0, level / LOUD) * row.alpha
        for plane in i420_planes(pixels, rect.width, rect.height):
            height, width = plane.shape
            line = height // 3  # what is above the lips' line stays, what is below is drawn down
            lower = cv2.resize(plane[line:], (width, max(1, round((height - line) * stretch))))
            plane[line:] = lower[: height - line]
        row.out[: rect.i420_size] = pixels.tobytes()
        return base.Result("mouth", rect)
