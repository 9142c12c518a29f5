"""Frames as a stream asked for them: the rectangle or the whole picture, I420 or RGB24."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from inference_server.engines.base import BodyLoop
from inference_server.streams.responses import FrameReady
from visavis.avatar.v1.contract import FrameScope, PixelFormat
from visavis.frames import Rect, paste_i420


class Pictures:
    """Pixels of one stream."""

    def __init__(self, body: BodyLoop, pixel_format: PixelFormat, scope: FrameScope) -> None:
        self.format = pixel_format
        self.scope = scope
        self._body = body
        self._whole = Rect(0, 0, body.width, body.height)

    def pixels(self, frame: FrameReady) -> tuple[Rect | None, bytes | None]:
        """What travels: a rectangle and its pixels, or nothing where the client holds the picture itself."""
        rect, i420 = self._i420(frame)
        if rect is None or i420 is None:
            return None, None
        if self.format == "i420":
            return rect, i420 if isinstance(i420, bytes) else i420.tobytes()
        return rect, cv2.cvtColor(_rows(i420, rect), cv2.COLOR_YUV2RGB_I420).tobytes()

    def whole_rgb(self, head: bytes, frame: FrameReady) -> memoryview:
        """``head``, then the whole picture in RGB24; in one piece, since copies are what a large picture costs."""
        rect, i420 = self._i420(frame)
        if rect is None or i420 is None:
            raise ValueError("only a stream of whole pictures has one of every frame")
        out = np.empty(len(head) + rect.width * rect.height * 3, np.uint8)
        out[: len(head)] = np.frombuffer(head, np.uint8)
        rgb = out[len(head) :].reshape(rect.height, rect.width, 3)
        cv2.cvtColor(_rows(i420, rect), cv2.COLOR_YUV2RGB_I420, rgb)
        return out.data

    def _i420(self, frame: FrameReady) -> tuple[Rect | None, bytes | NDArray[np.uint8] | None]:
        if self.scope == "rectangle":
            return frame.rect, frame.pixels
        picture = self._body.frame(frame.loop_index)
        if frame.rect is not None and frame.pixels is not None:
            picture = np.array(picture)
            paste_i420(picture, self._body.width, self._body.height, frame.rect, frame.pixels)
        return self._whole, picture


def _rows(i420: bytes | NDArray[np.uint8], rect: Rect) -> NDArray[np.uint8]:
    packed = np.frombuffer(i420, np.uint8) if isinstance(i420, bytes) else i420
    return packed.reshape(rect.height * 3 // 2, rect.width)
