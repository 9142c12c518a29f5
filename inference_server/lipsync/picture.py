"""The two curves as a picture: what the lips did and what they should have done."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.lipsync.lips import LipTrack, Signal
from inference_server.lipsync.measure import LipSyncReport
from inference_server.lipsync.target import Target

_SHOWN, _TRUTH, _INK, _GRID, _SHADE = (
    (40, 70, 210),
    (180, 120, 20),
    (40, 40, 40),
    (225, 225, 225),
    (240, 244, 238),
)
_LEFT, _TOP, _HEIGHT, _ROW = 56, 64, 200, 270


def _scaled(values: Signal) -> Signal:
    low, high = np.percentile(values, [2, 98])
    return np.asarray(np.clip((values - low) / max(high - low, 1e-9), -0.05, 1.1))


def draw(
    report: LipSyncReport, lips: LipTrack, target: Target, start_s: float, seconds_a_row: float = 6.0
) -> NDArray[np.uint8]:
    """BGR picture: rows of six seconds, the measured gap over the target's opening, pauses shaded."""
    total = len(target.opening) / 100
    rows = max(1, min(8, int(np.ceil(total / seconds_a_row))))
    width = 1240
    image = np.full((_TOP + rows * _ROW, width, 3), 255, np.uint8)
    title = (
        f"lip gap (red) and target '{report.target}' (blue): r0 {report.r0:.2f}, lag {report.lag_ms:+.0f} ms"
    )
    _write(image, title, (_LEFT, 34), 0.7)
    shown, truth = _scaled(lips.gap), _scaled(target.opening)
    for row in range(rows):
        begin, base = row * seconds_a_row, _TOP + row * _ROW + _HEIGHT

        def place(t: Signal, v: Signal, begin: float = begin, base: int = base) -> NDArray[np.int32]:
            x = _LEFT + (t - begin) / seconds_a_row * (width - _LEFT - 20)
            return np.stack((x, base - v * (_HEIGHT - 20)), 1).round().astype(np.int32)

        hops = np.arange(len(truth)) / 100
        visible = (hops >= begin) & (hops < begin + seconds_a_row)
        for t in hops[visible & target.pause]:
            x = int(_LEFT + (t - begin) / seconds_a_row * (width - _LEFT - 20))
            cv2.line(image, (x, base), (x, base - _HEIGHT + 10), _SHADE, 3)
        for second in np.arange(np.ceil(begin), begin + seconds_a_row + 0.01):
            x = int(_LEFT + (second - begin) / seconds_a_row * (width - _LEFT - 20))
            cv2.line(image, (x, base), (x, base - _HEIGHT + 10), _GRID, 1)
            _write(image, f"{second:.0f} s", (x - 10, base + 20), 0.45)
        cv2.line(image, (_LEFT, base), (width - 20, base), _INK, 1)
        cv2.polylines(image, [place(hops[visible], truth[visible])], False, _TRUTH, 2, cv2.LINE_AA)
        middle = lips.times - start_s + lips.slot / 2
        now = (middle >= begin) & (middle < begin + seconds_a_row)
        cv2.polylines(image, [place(middle[now], shown[now])], False, _SHOWN, 2, cv2.LINE_AA)
    return image


def _write(image: NDArray[np.uint8], text: str, at: tuple[int, int], size: float) -> None:
    cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, _INK, 1, cv2.LINE_AA)
