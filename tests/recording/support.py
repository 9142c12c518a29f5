"""Pictures and sound as a media worker hands them over, and what is in a file of a recording."""

from __future__ import annotations

import io
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import av
import numpy as np
from numpy.typing import NDArray

from orchestrator.media.parameters import Encoding
from orchestrator.media.video.encoder import H264Encoder
from orchestrator.recording.messages import RecordedPicture, RecordedSound
from orchestrator.recording.movie import TRACKS

Pcm = NDArray[np.int16]


@cache
def pictures(count: int, size: int = 128, every: int = 25) -> list[tuple[bytes, bool]]:
    """Access units in Annex B, a key frame each so many; the picture flashes in its first of them."""
    encoder = H264Encoder(Encoding(size, size, Fraction(25), 500_000, 31))
    made = []
    for number in range(count):
        picture = np.full((size * 3 // 2, size), 128, np.uint8)
        picture[:size] = 230 if number % every == 0 else 30 + number % 25
        encoder.write(picture)
        units = encoder.encode(number % every == 0)
        made.append((b"".join(b"\0\0\0\1" + unit for unit in units), number % every == 0))
    return made


def shown(number: int, picture: tuple[bytes, bool], call_id: str = "c1") -> RecordedPicture:
    """Picture ``number`` of a call of 25 a second."""
    return RecordedPicture(call_id, number * 3600, picture[1], picture[0])


def sound(piece: int, caller: Pcm, avatar: Pcm, rate: int = 16_000, call_id: str = "c1") -> RecordedSound:
    """20 ms of a call: ``caller`` at 16 kHz, ``avatar`` at ``rate``."""
    return RecordedSound(
        call_id, piece, 2 * len(avatar), rate, caller.astype("<i2").tobytes() + avatar.astype("<i2").tobytes()
    )


@dataclass
class Played:
    """A file decoded: pictures as they are stored, in Annex B, and when each is shown; each track's sound."""

    format: str
    units: list[list[bytes]]
    times: list[float]
    brightness: list[float]
    tracks: dict[str, Pcm]
    starts: dict[str, float]
    comment: str = ""


def played(data: bytes) -> Played:
    """Decode a whole file."""
    out = Played("", [], [], [], {}, {})
    with av.open(io.BytesIO(data)) as file:
        out.format, out.comment = file.format.name, file.metadata.get("comment", "")
        if file.streams.video:
            for packet in file.demux(file.streams.video[0]):
                if packet.size:
                    out.units.append(cut(bytes(packet)))
                    out.times.append(float(packet.pts * packet.time_base))
    with av.open(io.BytesIO(data)) as file:
        if file.streams.video:
            out.brightness = [
                float(frame.to_ndarray(format="gray").mean()) for frame in file.decode(file.streams.video[0])
            ]
    for index, name in enumerate(TRACKS):
        with av.open(io.BytesIO(data)) as file:
            frames = list(file.decode(file.streams.audio[index]))
            pcm = np.concatenate([frame.to_ndarray()[0] for frame in frames])
            out.tracks[name] = (np.clip(pcm, -1, 1) * 32767).astype(np.int16)
            out.starts[name] = float(frames[0].pts * frames[0].time_base)
    return out


def cut(sample: bytes) -> list[bytes]:
    """The NAL units of a sample of an MP4 (ISO/IEC 14496-15: each after its length)."""
    units, at = [], 0
    while at < len(sample):
        size = int.from_bytes(sample[at : at + 4])
        units.append(sample[at + 4 : at + 4 + size])
        at += 4 + size
    return units


def onset(pcm: Pcm, hertz: float, rate: int = 16_000) -> float:
    """When a tone begins, in seconds: by its power in windows of 4 ms."""
    window = rate // 250
    wave = np.exp(-2j * np.pi * hertz * np.arange(window) / rate)
    power = np.abs([wave @ pcm[at : at + window] for at in range(0, len(pcm) - window, window // 4)])
    return float(np.argmax(power > power.max() / 2)) * (window // 4) / rate
