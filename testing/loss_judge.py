"""What a receiver showed of what was sent, picture by picture: each is compared with its own lossless decoding."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from testing.caller.recording import Packet, Stream, access_units

CLOCK_RATE = 90_000
LATEST_S = 0.2
"""A picture that comes later than this after its time, seen from the usual delay, is not shown: the jitter buffer.

Later ones are decoded all the same, as libwebrtc does, so that those after them are right.
"""
DEEP_S = 0.3
"""A deeper jitter buffer, for comparison."""
FREEZE_S = 0.12
WRONG = 6.0
"""Grey levels by which some block of 16 by 16 differs, on average, in a picture that is corrupt."""

Luma = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """One call over one path. ``frozen_s``: seconds in stretches of more than 120 ms without a new picture."""

    pictures: int
    shown: int
    corrupt: int
    late: int
    missing: int
    frozen_s: float
    deep: int | None = None
    """Those right and in time for a jitter buffer of ``DEEP_S``."""
    faults: dict[int, str] = field(default_factory=dict, repr=False)
    """What became of each picture that was not shown, by RTP timestamp."""

    @property
    def share(self) -> float:
        """Of the pictures sent, those shown right and in time."""
        return self.shown / self.pictures

    def __str__(self) -> str:
        return (
            f"shown {self.share:7.2%} of {self.pictures}, corrupt {self.corrupt}, late {self.late}, "
            f"missing {self.missing}, frozen {self.frozen_s:.2f} s"
            + ("" if self.deep is None else f"; {self.deep / self.pictures:.2%} with {DEEP_S * 1000:.0f} ms")
        )


def decode(packets: list[Packet]) -> dict[int, tuple[Luma, float]]:
    """Luma and arrival of what a decoder shows of the pictures that are whole, by RTP timestamp."""
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoder.options = {"flags": "+output_corrupt+low_delay"}
    arrivals: dict[int, float] = {}
    pictures: list[Any] = []
    for data, timestamp, arrived in access_units(packets):
        packet = av.Packet(data)
        packet.pts, packet.time_base = timestamp, Fraction(1, CLOCK_RATE)
        arrivals[timestamp] = arrived
        try:
            pictures += decoder.decode(packet)
        except av.FFmpegError:
            continue
    pictures += decoder.decode(None)
    return {p.pts: (p.to_ndarray()[: p.height].copy(), arrivals.get(p.pts, 0.0)) for p in pictures}


def is_corrupt(picture: Luma, right: Luma) -> bool:
    """Whether a person could see that something is wrong with it."""
    if picture.shape != right.shape:
        return True
    height, width = (side // 16 * 16 for side in right.shape)
    difference = np.abs(picture[:height, :width].astype(np.int16) - right[:height, :width])
    blocks = difference.reshape(height // 16, 16, width // 16, 16).mean(axis=(1, 3))
    return bool(blocks.max() > WRONG)


def judge(entered: Stream, arrived: Stream, fps: int, until: float = float("inf")) -> Shown:
    """Compare what reached the receiver with what was sent before ``until``."""
    right = decode([p for p in entered.ordered() if p.arrived < until])
    seen = decode(arrived.ordered())
    sent = sorted(right)
    first = sent[0]
    delays = [at - (stamp - first) / CLOCK_RATE for stamp, (_, at) in seen.items() if stamp in right]
    usual = float(np.median(delays)) if delays else 0.0
    good: list[float] = []
    faults: dict[int, str] = {}
    deep = 0
    for stamp in sent:
        picture, at = seen.get(stamp, (None, 0.0))
        due = (stamp - first) / CLOCK_RATE
        if picture is None:
            faults[stamp] = "missing"
        elif is_corrupt(picture, right[stamp][0]):
            faults[stamp] = "corrupt"
        elif at - due - usual > LATEST_S:
            faults[stamp] = "late"
            deep += at - due - usual <= DEEP_S
        else:
            good.append(due)
    gaps = [b - a for a, b in itertools.pairwise(good) if b - a > FREEZE_S]
    count = Counter(faults.values())
    return Shown(
        len(sent),
        len(good),
        count["corrupt"],
        count["late"],
        count["missing"],
        sum(gaps),
        len(good) + deep,
        faults,
    )


def send_jitter_ms(entered: Stream) -> tuple[float, float]:
    """How far packets left from their even beat: median and 99th percentile, in milliseconds."""
    packets = entered.ordered()
    offset = np.array([p.arrived - p.timestamp / entered.clock_rate for p in packets])
    away = np.abs(offset - np.median(offset)) * 1000
    return float(np.median(away)), float(np.quantile(away, 0.99))
