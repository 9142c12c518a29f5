"""Pictures and sound of a recording, each on the recording's own clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

RATE = 16_000
Pcm = NDArray[np.int16]
Rgb = NDArray[np.uint8]


@dataclass(frozen=True)
class Sound:
    """Mono int16 at 16 kHz; ``start_s`` is the time of the first sample on the clip's clock."""

    pcm: Pcm
    start_s: float


def read_sound(path: Path) -> Sound:
    """The first audio stream, placed by its time stamps: a gap becomes silence.

    Raises ``ValueError`` when the clip has no sound.
    """
    pieces: list[tuple[float, Pcm]] = []
    with av.open(str(path)) as container:
        if not container.streams.audio:
            raise ValueError(f"{path} has no sound: give the audio beside it with --audio")
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
        for frame in container.decode(stream):
            at = frame.time
            for out in resampler.resample(frame):
                pieces.append((at if at is not None else _end(pieces), _mono(out)))
        for out in resampler.resample(None):
            pieces.append((_end(pieces), _mono(out)))
    if not pieces:
        raise ValueError(f"{path} has an empty sound track")
    return _placed(pieces)


def _mono(frame: av.AudioFrame) -> Pcm:
    return np.asarray(frame.to_ndarray(), np.int16).reshape(-1)


def _end(pieces: list[tuple[float, Pcm]]) -> float:
    return pieces[-1][0] + len(pieces[-1][1]) / RATE if pieces else 0.0


def _placed(pieces: list[tuple[float, Pcm]]) -> Sound:
    """Pieces end to end; where a time stamp is 20 ms or more ahead of the samples, silence between."""
    start = pieces[0][0]
    parts: list[Pcm] = []
    have = 0
    for at, pcm in pieces:
        missing = round((at - start) * RATE) - have
        if missing > RATE // 50:
            parts.append(np.zeros(missing, np.int16))
            have += missing
        parts.append(pcm)
        have += len(pcm)
    return Sound(np.concatenate(parts), start)


def read_pictures(path: Path) -> Iterator[tuple[float, Rgb]]:
    """Time in seconds and RGB of each picture of the first video stream, in the order of display.

    Raises ``ValueError`` when the clip has no video.
    """
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError(f"{path} has no video")
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        rate = float(stream.average_rate or 25)
        for index, frame in enumerate(container.decode(stream)):
            at = frame.time if frame.time is not None else index / rate
            yield float(at), np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
