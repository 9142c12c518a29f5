"""Slopes of memory over a soak, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LEFT_OUT = 0.25
"""Of the time: until then caches fill."""
LEAST_ROWS = 4

_WIDTH, _HEIGHT, _MARGIN = 1000, 260, 60
_COLOURS = ((180, 60, 0), (0, 130, 0), (0, 0, 200), (150, 0, 150), (0, 130, 200), (90, 90, 90))  # BGR
_GREY = (190, 190, 190)
Series = Mapping[str, Sequence[tuple[float, float]]]


@dataclass(frozen=True)
class Slope:
    """MB a minute by least squares, and its standard error."""

    value: float
    error: float


def series(rows: Sequence[Mapping[str, Any]], figure: str) -> dict[str, list[tuple[float, float]]]:
    """A figure of each process: (minute, value)."""
    out: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for name, reading in row["processes"].items():
            out.setdefault(name, []).append((row["minute"], reading[figure]))
    return out


def slope(points: Sequence[tuple[float, float]], minutes: float) -> Slope | None:
    """Over the last three quarters of ``minutes``; ``None`` where that is too little to say anything."""
    late = np.array([point for point in points if point[0] > LEFT_OUT * minutes])
    if len(late) < LEAST_ROWS:
        return None
    x, y = late.T
    value, start = np.polyfit(x, y, 1)
    rest = y - value * x - start
    error = np.sqrt((rest**2).sum() / (len(x) - 2) / ((x - x.mean()) ** 2).sum())
    return Slope(float(value), float(error))


def plot(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """A picture of memory, descriptors, lateness and turns by the minute."""
    panels = [
        (
            "resident set since the first line, MB (least of each interval)",
            {
                name: [(x, y - points[0][1]) for x, y in points]
                for name, points in series(rows, "rss_min").items()
            },
        ),
        ("open descriptors", series(rows, "files")),
        (
            "voice late, ms",
            {
                name: [(row["minute"], row["voice_late_ms"][name]) for row in rows]
                for name in ("p50", "p99", "worst")
            },
        ),
        (
            "turns finished, pictures late, in each interval",
            {
                name: [(row["minute"], row["counts"].get(key, 0)) for row in rows]
                for name, key in (("turns", "turns_finished"), ("pictures late", "frames_late"))
            },
        ),
    ]
    cv2.imwrite(str(path), np.vstack([_panel(title, lines) for title, lines in panels]))


def _panel(title: str, lines: Series) -> NDArray[np.uint8]:
    image: NDArray[np.uint8] = np.full((_HEIGHT, _WIDTH, 3), 255, np.uint8)
    points = [point for line in lines.values() for point in line]
    if not points:
        return image
    x_most = max(x for x, _ in points) or 1.0
    low, high = min(0.0, *(y for _, y in points)), max(y for _, y in points)
    high = high if high > low else low + 1.0
    inner_w, inner_h = _WIDTH - 3 * _MARGIN, _HEIGHT - 2 * 30

    def place(x: float, y: float) -> tuple[int, int]:
        return (
            _MARGIN + round(x / x_most * inner_w),
            _HEIGHT - 30 - round((y - low) / (high - low) * inner_h),
        )

    def write(text: str, at: tuple[int, int], colour: tuple[int, int, int] = (0, 0, 0)) -> None:
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)

    write(title, (_MARGIN, 18))
    for part in range(5):
        y = low + (high - low) * part / 4
        cv2.line(image, place(0, y), place(x_most, y), _GREY)
        write(f"{y:.4g}", (4, place(0, y)[1] + 4))
        write(f"{x_most * part / 4:.3g} min", (place(x_most * part / 4, low)[0] - 15, _HEIGHT - 10))
    for number, (name, line) in enumerate(lines.items()):
        colour = _COLOURS[number % len(_COLOURS)]
        corners = np.array([place(x, y) for x, y in line], np.int32)
        cv2.polylines(image, [corners], False, colour, 2, cv2.LINE_AA)
        write(name, (_WIDTH - 2 * _MARGIN + 8, 40 + 18 * number), colour)
    return image
