"""The portrait engine: one picture and a voice to a talking mouth, on the CPU."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.avatars.portrait import cast
from inference_server.avatars.portrait.region import mouth_region, own_motion
from inference_server.engines.base import (
    BodyLoop,
    EngineError,
    EngineInfo,
    ImageRejected,
    Memory,
    Prepared,
    Progress,
    Result,
    Row,
)
from inference_server.engines.portrait.articulation import AHEAD_S, BEHIND_S, Articulation
from inference_server.engines.portrait.atlas import POSES, blend, mix_of, paint_atlas, rendered_atlas
from inference_server.engines.portrait.features import AFTER, BLOCK_HOPS, HOP, RATE, WINDOW
from inference_server.engines.portrait.handle import PortraitHandle
from inference_server.engines.portrait.painter import Painter
from inference_server.engines.portrait.visemes import REST as SILENT
from inference_server.engines.portrait.visemes import MouthParams, VisemeTrack, load_network
from visavis.frames import Rect

_SETTINGS = ("gain", "memory_mb")
MOST_OWN_MOTION = 0.15  # of the mouth's width, beside the head's


class PortraitTrack:
    """The audio of one turn and the mouth that it moves."""

    def __init__(self, handle: PortraitHandle, fps: Fraction, origin: int, gain: float) -> None:
        self.handle = handle
        self._voice: VisemeTrack | None = VisemeTrack(origin)
        self._lips = Articulation(self._voice, fps, gain)

    def append(self, pcm: NDArray[np.int16]) -> None:
        """More audio, 16 kHz mono, of any length."""
        if self._voice is not None:
            self._voice.append(pcm)

    def end(self) -> None:
        """No more audio comes."""
        if self._voice is not None:
            self._voice.end()

    def ready(self) -> int:
        """Frames, counted from the turn's frame 0, that can be rendered now."""
        return 0 if self._voice is None else self._lips.ready()

    def close(self) -> None:
        """Drop the audio."""
        self._voice = None

    def params(self, frame: int) -> MouthParams:
        """The mouth of a frame of the turn; at rest once closed."""
        if self._voice is None:
            return SILENT
        return self._lips.params(frame)


class _Done:
    def __init__(self, results: list[Result]) -> None:
        self.results = results


class PortraitEngine:
    """Implements :class:`~inference_server.engines.base.Engine`.

    Settings: ``gain`` scales how far the mouth opens (default 1), ``memory_mb`` bounds all avatars (default 2048).
    """

    def __init__(self, settings: Mapping[str, str]) -> None:
        for name in settings:
            if name not in _SETTINGS:
                raise EngineError(
                    f"The portrait engine has no setting {name!r}; it has {', '.join(_SETTINGS)}."
                )
        self._gain = float(settings.get("gain", "1"))
        self._budget = int(float(settings.get("memory_mb", "2048")) * 2**20)
        self._handles: list[PortraitHandle] = []
        self._cost = 0.5
        self.info = EngineInfo(
            "portrait", _build(), 1920, 48_000, avatar_settings=()
        )  # until the network is there

    def load(self, progress: Progress) -> None:
        """The viseme network and one evaluation of it. Raises ``ModelMissing``."""
        cv2.setNumThreads(1)  # one core per engine process, and no thread pool to wake for 30 kB of pixels
        network = load_network()
        progress(0.5, "viseme network read")
        after = (network.delay + BLOCK_HOPS) * HOP + AFTER + int(AHEAD_S * RATE)
        before = (network.memory + BLOCK_HOPS) * HOP + WINDOW + int(BEHIND_S * RATE)
        self.info = replace(self.info, look_ahead=after, history=before)
        VisemeTrack(0, network).append(np.zeros(16_000, np.int16))
        progress(1.0, "portrait engine ready")

    def prepare(self, body: BodyLoop, settings: Mapping[str, str]) -> Iterator[float | Prepared]:
        """Paints the atlas, one pose a step. Raises :class:`ImageRejected`."""
        points = body.landmarks[0]
        region = mouth_region(points, Rect(0, 0, body.width, body.height))
        if region.width < 24 or region.height < 24:
            raise ImageRejected(
                "The mouth is too small or cut off in this picture: use one that shows it whole."
            )
        if own_motion(body.landmarks, body.motion) > MOST_OWN_MOTION:
            raise ImageRejected(
                "The mouth moves in this video, and the portrait engine draws on a mouth at rest: use a video in "
                "which the person listens, a picture, or the musetalk engine."
            )
        built_in = cast.faces().get(body.cast)
        painted: Iterator[tuple[int, NDArray[np.uint8]]]
        if built_in and built_in.mouths and body.framing is not None:
            painted = rendered_atlas(body.reference, region, built_in.mouths, body.framing)
        else:
            painted = paint_atlas(Painter(body.reference, points, region))
        atlas = np.empty((len(POSES), region.height * 3 // 2, region.width), np.uint8)
        yield 0.02
        for index, picture in painted:
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
        """Bytes of the resident avatars, and the budget."""
        return Memory(sum(h.nbytes for h in self._handles), self._budget)

    def close(self) -> None:
        """Let go of every avatar."""
        self._handles.clear()

    def _row(self, row: Row) -> Result:
        track = row.track
        assert isinstance(track, PortraitTrack)
        mouth = track.params(row.frame)
        mix = None if mouth.silent else mix_of(mouth.open, mouth.width, mouth.close, mouth.fv, row.alpha)
        if mix is None:
            return Result("body")
        handle = track.handle
        return Result("mouth", handle.draw(blend(handle.atlas, mix), row.loop_index, row.out))


def _build() -> str:
    """Digest of the sources and weights that shape this engine's pixels."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    avatars = here.parents[1] / "avatars"
    shared = [avatars / "portrait" / f"{name}.py" for name in ("closing", "lips", "warp", "region")]
    shared += [Path(cast.__file__), *cast.FOLDER.glob("*.npz")]
    for path in sorted([*here.glob("*.py"), *here.glob("*.npz"), *shared, avatars / "i420.py"]):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
