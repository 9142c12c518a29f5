"""ITU-T H.264 table A-1."""

from __future__ import annotations

import itertools
from fractions import Fraction

import pytest

from orchestrator.rtp.h264_levels import LEVEL_1B, LEVELS, lowest_level


@pytest.mark.parametrize(
    ("size", "fps", "bitrate", "level"),
    [
        ((176, 144), 15, 0, 10), ((352, 288), 30, 0, 13), ((512, 512), 25, 1_000_000, 30),
        ((640, 480), 30, 0, 30), ((1280, 720), Fraction(30000, 1001), 0, 31), ((1920, 1080), 30, 0, 40),
        # The bit rate alone raises the level: 4.1 is there for what 4 has no room for, 4.2 only for its rate.
        ((1280, 720), 25, 20_000_000, 32), ((1280, 720), 25, 20_000_001, 41), ((1920, 1080), 60, 0, 42),
        ((1280, 720), 25, 50_000_001, 50), ((3840, 2160), 30, 0, 51), ((3840, 2160), 60, 0, 52),
        ((176, 144), 15, 128_000, 11),  # never 1b, which takes a flag of the profile
        ((2032, 16), 1, 0, 31),  # a strip of 127 macroblocks: neither side above sqrt(8 MaxFS)
    ],
)  # fmt: skip
def test_the_lowest_level_that_fits(
    size: tuple[int, int], fps: int | Fraction, bitrate: int, level: int
) -> None:
    assert lowest_level(*size, fps, bitrate) == level
    assert LEVELS[level].allows(*size, fps)


def test_what_no_level_allows_is_refused() -> None:
    with pytest.raises(ValueError, match=r"level 5\.2"):
        lowest_level(8192, 8192, Fraction(30))
    with pytest.raises(ValueError, match="240000001 bit/s"):
        lowest_level(512, 512, 25, 240_000_001)


def test_levels_only_grow() -> None:
    rows = [LEVELS[idc] for idc in sorted(LEVELS, key=lambda idc: 10.5 if idc == LEVEL_1B else idc)]
    for low, high in itertools.pairwise(rows):
        assert low.max_mbps <= high.max_mbps
        assert (low.max_fs, low.max_bitrate) <= (high.max_fs, high.max_bitrate)
