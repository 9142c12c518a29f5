"""Fits a picture of another size into the one that was negotiated, with bars where the shapes differ."""

from __future__ import annotations

from typing import cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from visavis.frames import I420, Rect, i420_planes, inside


class Fitter:
    """Scales I420 pictures of any size into ``width`` x ``height``; the same size passes untouched."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._scaler = VideoReformatter()
        self._out: I420 | None = None

    def fit(self, picture: I420) -> I420:
        """The picture in the wanted size; a buffer that is valid until the next call."""
        width, height = int(picture.shape[1]), int(picture.shape[0]) * 2 // 3
        if (width, height) == (self.width, self.height):
            return picture
        ratio = min(self.width / width, self.height / height)
        inner_width = min(self.width, max(2, round(width * ratio / 2) * 2))
        inner_height = min(self.height, max(2, round(height * ratio / 2) * 2))
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="yuv420p")
        scaled = cast(I420, self._scaler.reformat(frame, inner_width, inner_height).to_ndarray())
        if self._out is None:
            self._out = np.full((self.height * 3 // 2, self.width), 16, np.uint8)
            self._out[self.height :] = 128
        x, y = (self.width - inner_width) // 4 * 2, (self.height - inner_height) // 4 * 2
        target = inside(
            i420_planes(self._out, self.width, self.height), Rect(x, y, inner_width, inner_height)
        )
        target[0][:], target[1][:], target[2][:] = i420_planes(scaled, inner_width, inner_height)
        return self._out
