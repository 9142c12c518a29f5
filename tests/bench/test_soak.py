"""The soak's judgement: slopes, readings of processes, and a phone that lasts."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import cv2
import pytest

from bench.soak.readings import Processes
from bench.soak.verdict import plot, series, slope
from testing.caller.recording import Stream


def row(minute: float, rss: float) -> dict[str, Any]:
    reading = {"pid": 1, "rss_min": rss, "uss": rss / 2, "files": 20, "threads": 3}
    return {
        "minute": minute,
        "voice_late_ms": {"p50": 0.1, "p99": 2.0, "worst": 5.0},
        "counts": {"turns_finished": 24, "frames_late": 0},
        "processes": {"media 1": reading},
    }


def test_a_slope_is_of_the_last_three_quarters() -> None:
    rows = [row(m, 100 + 20 * min(m, 10) + 0.25 * m + (0.5 if m % 2 else -0.5)) for m in range(1, 61)]
    found = slope(series(rows, "rss_min")["media 1"], 60)
    assert found is not None
    assert found.value == pytest.approx(0.25, abs=0.01)
    assert 0 < found.error < 0.01


def test_too_few_rows_have_no_slope() -> None:
    rows = [row(m, 100.0) for m in range(1, 5)]
    assert slope(series(rows, "rss_min")["media 1"], 4) is None


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    plot([row(m / 5, 100.0 + m) for m in range(1, 13)], tmp_path / "soak.png")
    image = cv2.imread(str(tmp_path / "soak.png"))
    assert image is not None and image.shape[0] > image.shape[1] > 500
    plot([row(1, 100.0)], tmp_path / "one.png")
    plot([], tmp_path / "none.png")


def test_a_reading_takes_the_least_resident_set_and_a_process_that_ends_is_told() -> None:
    processes = Processes(os.getpid(), os.getpid())
    processes.sample()
    held = bytearray(50_000_000)
    processes.sample()
    reading = processes.take()["control"]
    assert reading.rss_median - reading.rss_min > 20
    assert reading.files > 3 and reading.threads >= 1 and 0 < reading.uss <= reading.pss
    assert not processes.ended and held
    gone = Processes(os.getpid(), 2**22 - 1)
    gone._known = {"inference": 2**22 - 1}
    gone.sample()
    assert gone.ended == ["inference (4194303)"]
    assert "inference" not in gone.take()


def test_a_phone_that_lasts_keeps_its_last_packets_and_counts_all() -> None:
    stream = Stream(8000, kept=100)
    for number in range(70_000):  # beyond the wrap of sequence numbers
        stream.on_rtp(
            struct.pack("!BBHII", 0x80, 0, number & 0xFFFF, number * 160, 9) + b"\xff", 0.02 * number
        )
    assert len(stream.packets) <= 200
    assert (stream.first, stream.highest, stream.received) == (0, 69_999, 70_000)
    assert stream.packets[-1].sequence == 69_999
