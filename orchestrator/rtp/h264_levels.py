"""What each H.264 level allows: ITU-T H.264 table A-1, with the bit rates of the Baseline profile."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil, isqrt

LEVEL_1B = 9
"""Stands for level 1b, which Baseline signals as 11 with constraint_set3_flag (RFC 6184 section 8.1)."""


@dataclass(frozen=True, slots=True)
class Level:
    """Bounds: macroblocks (16x16 pixels) a second and a picture, bits a second."""

    max_mbps: int
    max_fs: int
    max_bitrate: int

    def allows(self, width: int, height: int, fps: float | Fraction) -> bool:
        """Whether a stream of that size and rate is within the bounds, that of each side among them (A.3.1)."""
        columns, rows = ceil(width / 16), ceil(height / 16)
        blocks, side = columns * rows, isqrt(8 * self.max_fs)
        return blocks <= self.max_fs and max(columns, rows) <= side and blocks * fps <= self.max_mbps


LEVELS = {
    idc: Level(mbps, fs, kilobits * 1000)
    for idc, mbps, fs, kilobits in (
        (10, 1_485, 99, 64),
        (LEVEL_1B, 1_485, 99, 128),
        (11, 3_000, 396, 192),
        (12, 6_000, 396, 384),
        (13, 11_880, 396, 768),
        (20, 11_880, 396, 2_000),
        (21, 19_800, 792, 4_000),
        (22, 20_250, 1_620, 4_000),
        (30, 40_500, 1_620, 10_000),
        (31, 108_000, 3_600, 14_000),
        (32, 216_000, 5_120, 20_000),
        (40, 245_760, 8_192, 20_000),
        (41, 245_760, 8_192, 50_000),
        (42, 522_240, 8_704, 50_000),
        (50, 589_824, 22_080, 135_000),
        (51, 983_040, 36_864, 240_000),
        (52, 2_073_600, 36_864, 240_000),
    )
}
"""By level_idc: ten times the level's number."""


def lowest_level(width: int, height: int, fps: float | Fraction, bits_per_second: int = 0) -> int:
    """The level_idc of the lowest level (1b left out) for a size, rate and bit rate; ValueError beyond 5.2."""
    for idc, level in sorted(LEVELS.items()):
        fits = level.allows(width, height, fps) and bits_per_second <= level.max_bitrate
        if fits and idc != LEVEL_1B:
            return idc
    raise ValueError(
        f"{width}x{height} at {float(fps):g} fps and {bits_per_second} bit/s is more than H.264 level 5.2 allows"
    )
