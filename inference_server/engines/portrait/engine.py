"""The portrait engine: one picture and a voice to a talking mouth, on the CPU."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.i420 import half
from inference_server.avatars.region import mouth_region
from inference_server.engines.base import (
    BodyLoop,
    EngineInfo,
    ImageRejected,
    Memory,
    Prepared,
    Progress,
    Result,
    Row,
)
from inference_server.engines.portrait.atlas import POSES, REST, blend, mix_of, paint_atlas
from inference_server.engines.portrait.energy import EnergyTrack
from inference_server.engines.portrait.painter import Painter
from visavis.frames import Rect, frame_at, i420_planes

_SETTINGS: Final = frozenset({"gain", "memory_mb"})


class PortraitHandle:
    """One prepared avatar: the atlas, and where it goes on every body frame."""

    def __init__(self, prepared: Prepared, body: BodyLoop) -> None:
        self.body = body
        self.atlas: NDArray[np.uint8] = prepared.arrays["atlas"]
        self.region = Rect(*(int(v) for v in prepared.meta["region"]))
        self._rects = [self._covered(affine) for affine in body.motion]
        left, top = min(r.x for r in self._rects), min(r.y for r in self._rects)
        right = max(r.x + r.width for r in self._rects)
        bottom = max(r.y + r.height for r in self._rects)
        self.largest_rect = Rect(left, top, right - left, bottom - top)

    def rect(self, loop_index: int) -> Rect:
        """The rectangle that changes when the mouth is drawn on this body frame."""
        return self._rects[loop_index % len(self._rects)]

    def _covered(self, affine: NDArray[np.float32]) -> Rect:
        x, y, w, h = self.region
        corners = np.array([[x, y], [x + w - 1, y], [x, y + h - 1], [x + w - 1, y + h - 1]], np.float64)
        placed = corners @ affine[:, :2].T.astype(np.float64) + affine[:, 2]
        low, high = np.floor(placed.min(0)), np.ceil(placed.max(0)) + 1
        x0, y0 = (max(int(v) // 2 * 2, 0) for v in low)
        x1 = min(-(-int(high[0]) // 2) * 2, self.body.width)
        y1 = min(-(-int(high[1]) // 2) * 2, self.body.height)
        return Rect(x0, y0, x1 - x0, y1 - y0)

    def draw(self, picture: NDArray[np.uint8], loop_index: int, out: memoryview) -> Rect:
        """The body frame with this mouth (packed I420 of the region) into ``out``, packed."""
        index = loop_index % len(self._rects)
        rect, region, affine = self._rects[index], self.region, self.body.motion[index]
        body = i420_planes(self.body.frames[index], self.body.width, self.body.height)
        mouth = i420_planes(picture, region.width, region.height)
        rest = i420_planes(self.atlas[REST], region.width, region.height)
        target = i420_planes(np.frombuffer(out, np.uint8)[: rect.i420_size], rect.width, rect.height)
        for plane in range(3):
            s = 1 if plane == 0 else 2
            matrix = affine if plane == 0 else half(affine)
            size = (rect.width // s, rect.height // s)
            change = cv2.subtract(mouth[plane], rest[plane], dtype=cv2.CV_16S)
            placed = matrix.astype(np.float64)
            placed[:, 2] += matrix[:, :2] @ [region.x // s, region.y // s] - [rect.x // s, rect.y // s]
            moved = cv2.warpAffine(
                change, placed, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_CONSTANT
            )
            under = body[plane][rect.y // s :, rect.x // s :][: size[1], : size[0]]
            target[plane][:] = cv2.add(under, moved, dtype=cv2.CV_8U)
        return rect


class PortraitTrack:
    """The audio of one turn and the mouth that it moves."""

    def __init__(self, handle: PortraitHandle, fps: Fraction, origin: int, gain: float) -> None:
        self.handle = handle
        self._fps, self._origin, self._gain = fps, origin, gain
        self._voice = EnergyTrack()
        self._heard = 0
        self._ended = False

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More audio, 16 kHz mono, of any length."""
        self._heard += len(pcm)
        self._voice.append(pcm)

    def end(self) -> None:
        """No more audio comes."""
        self._ended = True
        self._voice.end()

    def ready(self) -> int:
        """Frames, counted from the turn's frame 0, that can be rendered now."""
        end = self._origin + min(self._voice.ready_samples, self._heard)
        whole = frame_at(end, self._fps)
        if self._ended and self._heard and frame_at(end - 1, self._fps) == whole:
            whole += 1
        return whole

    def close(self) -> None:
        """Drop the audio."""
        self._voice = EnergyTrack()

    def params(self, frame: int) -> tuple[float, float, float, float]:
        """(open, width, close, fv) of a frame of the turn."""
        opening, width, close, fv = self._voice.params(frame, self._fps)
        return opening * self._gain, width, close, fv


class _Done:
    def __init__(self, results: list[Result]) -> None:
        self.results = results


class PortraitEngine:
    """Implements :class:`~inference_server.engines.base.Engine`.

    Settings: ``gain`` scales how far the mouth opens (default 1), ``memory_mb`` bounds all avatars (default 2048).
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._gain = float(settings.get("gain", "1"))
        self._budget = int(float(settings.get("memory_mb", "2048")) * 2**20)
        self._handles: list[PortraitHandle] = []
        self._cost = 0.5
        self.info = EngineInfo(
            name="portrait",
            build=_build(),
            look_ahead=1280,
            history=8000,
            buckets=(1, 2, 4, 8),
            closing_frames=3,
            max_width=1920,
            max_height=1920,
        )

    def load(self, progress: Progress) -> None:
        """Nothing to fetch: the weights are in the package."""
        cv2.setNumThreads(1)  # one core per engine process, and no thread pool to wake for 30 kB of pixels
        progress(1.0, "portrait engine ready")

    def prepare(self, body: BodyLoop, settings: Mapping[str, str]) -> Iterator[float | Prepared]:
        """Paints the atlas, one pose a step. Raises :class:`ImageRejected`."""
        points = body.landmarks[0]
        region = mouth_region(points, Rect(0, 0, body.width, body.height))
        if region.width < 24 or region.height < 24:
            raise ImageRejected(
                "The mouth is too small or cut off in this picture: use one that shows it whole."
            )
        painter = Painter(body.reference, points, region)
        atlas = np.empty((len(POSES), region.height * 3 // 2, region.width), np.uint8)
        yield 0.02
        for index, picture in paint_atlas(painter):
            atlas[index] = picture
            yield 0.02 + 0.98 * (index + 1) / len(POSES)
        yield Prepared({"atlas": atlas}, {"region": list(region), "version": 1})

    def attach(self, prepared: Prepared, body: BodyLoop) -> PortraitHandle:
        """Make an avatar resident."""
        handle = PortraitHandle(prepared, body)
        self._handles.append(handle)
        return handle

    def detach(self, handle: Any) -> None:
        """Let go of it."""
        if handle in self._handles:
            self._handles.remove(handle)

    def track(self, handle: Any, fps: Fraction, origin: int) -> PortraitTrack:
        """A new turn's audio."""
        return PortraitTrack(handle, fps, origin, self._gain)

    def cost_ms(self, rows: int) -> float:
        """A running mean of what a row took, times the rows."""
        return self._cost * rows

    def submit(self, rows: Sequence[Row]) -> _Done:
        """Draws at once."""
        start = time.perf_counter()
        done = _Done([self._row(row) for row in rows])
        if rows:
            each = (time.perf_counter() - start) * 1e3 / len(rows)
            self._cost += 0.05 * (each - self._cost)
        return done

    def collect(self, ticket: Any, wait_s: float) -> list[Result] | None:
        """The results, which are always there."""
        results: list[Result] = ticket.results
        return results

    def memory(self) -> Memory:
        """Bytes of the resident atlases, and the budget."""
        return Memory(sum(h.atlas.nbytes for h in self._handles), self._budget)

    def close(self) -> None:
        """Let go of every avatar."""
        self._handles.clear()

    def _row(self, row: Row) -> Result:
        track = row.track
        assert isinstance(track, PortraitTrack)
        mix = mix_of(*track.params(row.frame), alpha=row.alpha)
        if mix is None:
            return Result("body")
        handle = track.handle
        return Result("mouth", handle.draw(blend(handle.atlas, mix), row.loop_index, row.out))


def _build() -> str:
    """Digest of the sources and weights that shape this engine's pixels."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    avatars = here.parents[1] / "avatars"
    shared = [avatars / name for name in ("warp.py", "region.py", "i420.py")]
    for path in sorted([*here.glob("*.py"), *here.glob("*.npz"), *shared]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
